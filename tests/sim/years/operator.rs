//! The operator's years: words about certificates and devices, stops, releases, retention; servers
//! that are restarted, die and lose the time; attackers; and whoever looks at the store.

use std::collections::BTreeSet;

use tegata_authority::UnixSecs;
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_crypto::KeyAlg;
use tegata_crypto::PrivateKey;
use tegata_store::archive;
use tegata_store::certificate;
use tegata_store::generation::{self, Kind, Next, Sure};
use tegata_store::revocation::scoped::{Predicate, Progress, ReleasesOf, ScopedError, say_to_all};
use tegata_store::revocation::{Target, say, stop};
use tegata_wire::x509::CertView;

use super::fleet::Fleet;
use super::ledger::Stopped;
use super::queue::{DAY_MS, Event, HOUR_MS};
use super::relying::{self, Belief};
use super::self_test::Broken;

/// A word that will be taken back.
pub struct Hold {
    what: Held,
    lifted: bool,
}

enum Held {
    Some(Box<Predicate>),
    Device(usize),
}

impl Fleet {
    pub fn operate(&mut self) {
        match self.below(100) {
            0..=21 => self.revoke_some(),
            22..=37 => self.hold_some(),
            38..=49 => self.hold_device(),
            50..=55 => self.revoke_device(),
            56..=65 => self.stop_some(),
            66..=75 => self.put_server_clock_wrong(),
            76..=81 => self.restart_servers(),
            82..=92 => self.forge(),
            _ => {
                let since = self.time.now_ms() - self.newest.1;
                if since > 300 * DAY_MS {
                    self.cut_release();
                } else {
                    self.recall_old_releases();
                }
            }
        }
    }

    fn any_batch(&self) -> String {
        let n = self.below(self.batches.len() as i64) as usize;
        self.batches[n].clone()
    }

    fn any_device(&self) -> usize {
        self.below(self.devices.len() as i64) as usize
    }

    /// A predicate that is true of a part of a batch.
    fn any_predicate(&self) -> Predicate {
        let days = self.below(300);
        let before = self.time.now_ms() - days * DAY_MS;
        let ueid = |d: &usize| self.devices[*d].ueid;
        match self.below(4) {
            // A list of devices, from whoever knows better.
            0 => Predicate {
                devices: Some(
                    [self.any_device(), self.any_device()]
                        .iter()
                        .map(ueid)
                        .collect(),
                ),
                ..Predicate::default()
            },
            _ => Predicate {
                batch: Some(self.any_batch()),
                issued_before: Some(UnixSecs((before / 1000) as u64)),
                ..Predicate::default()
            },
        }
    }

    /// Says a word as the command does, which the operator repeats when it dies.
    fn say(&mut self, what: &Predicate, word: Word) -> Progress {
        let mut all = Progress::default();
        if self.ill_luck(200) {
            let at = self.below(4) as u32;
            self.ca.get_mut().faults.arm(at);
        }
        for _ in 0..3 {
            let said = self
                .ca
                .get_mut()
                .run(|ca, _, clock| say_to_all(&ca.role().store, what, word, clock.secs(), |_| {}));
            match said {
                Ok(Ok(progress)) => {
                    all.changed += progress.changed;
                    break;
                }
                Ok(Err(ScopedError::Store(error))) => panic!("{error}"),
                Ok(Err(error)) => panic!("{what:?}: {error}"),
                Err(_) => self.tally.server_deaths += 1,
            }
        }
        self.ca.get_mut().faults.disarm();
        self.tally.words += 1;
        all
    }

    /// Relying parties of each kind look at some certificates now, and will look again: at the very
    /// end of what they may keep, and after it.
    fn plan_looks(&mut self, devices: &[usize]) {
        let leaves = devices.iter().filter_map(|d| self.cares[*d].leaf.clone());
        for leaf in leaves.take(LOOKED_AT).collect::<Vec<_>>() {
            let serial = CertView::from_der(&leaf).unwrap().serial.to_vec();
            let now = self.time.now_ms();
            for _ in 0..3 {
                let party = self.below(self.parties.len() as i64) as usize;
                self.believes(party, &leaf);
                let bound = self.bound_secs(self.parties[party].kind) as i64 * 1000;
                for after in [
                    bound / 2,
                    bound - 5_000,
                    bound + 1_000,
                    bound + 70_000,
                    3 * bound,
                ] {
                    let look = Event::Look {
                        party,
                        serial: serial.clone(),
                    };
                    self.queue.put(now + after, look);
                }
            }
        }
    }

    fn of_predicate(&self, what: &Predicate) -> Vec<usize> {
        let is = |d: &usize| match (&what.batch, &what.devices) {
            (Some(batch), _) => self.cares[*d].batch == *batch,
            (_, Some(devices)) => devices.contains(&self.devices[*d].ueid),
            _ => true,
        };
        (0..self.devices.len()).filter(is).collect()
    }

    fn revoke_some(&mut self) {
        let what = self.any_predicate();
        let reasons = FinalReason::ALL;
        let reason = reasons[self.below(reasons.len() as i64) as usize];
        let devices = self.of_predicate(&what);
        self.plan_looks(&devices);
        if self.below(3) == 0
            && let Some(batch) = &what.batch
        {
            self.stop_batch(&batch.clone());
        }
        self.tally.revoked += self.say(&what, Word::Revoke(reason)).changed;
        self.remember_ended(&devices);
    }

    /// What is revoked for good now must be so for ever.
    fn remember_ended(&mut self, devices: &[usize]) {
        for d in devices {
            for row in self.rows(*d) {
                let revoked = row.standing.name() == "revoked";
                if let Some(seen) = self.ledger.certificates.get_mut(&row.intent.serial) {
                    seen.ended |= revoked;
                }
            }
        }
    }

    /// Certificates of all releases of the TA but the newest.
    fn recall_old_releases(&mut self) {
        let what = Predicate {
            releases: Some(ReleasesOf {
                ta: "enrol".into(),
                from: None,
                below: Some(self.newest.0),
            }),
            batch: Some(self.any_batch()),
            ..Predicate::default()
        };
        let devices = self.of_predicate(&what);
        self.plan_looks(&devices);
        let word = Word::Revoke(FinalReason::PrivilegeWithdrawn);
        self.tally.revoked += self.say(&what, word).changed;
        self.remember_ended(&devices);
    }

    pub fn hold_batch(&mut self, d: usize) {
        let batch = Some(self.cares[d].batch.clone());
        self.hold_these(Predicate {
            batch,
            ..Predicate::default()
        });
    }

    fn hold_some(&mut self) {
        let what = self.any_predicate();
        self.hold_these(what);
    }

    fn hold_these(&mut self, what: Predicate) {
        let devices = self.of_predicate(&what);
        self.plan_looks(&devices);
        self.tally.held += self.say(&what, Word::Hold).changed;
        self.put_hold(Held::Some(Box::new(what)));
    }

    fn hold_device(&mut self) {
        let d = self.any_device();
        if self.ledger.revoked_devices.contains(&d) {
            return;
        }
        self.plan_looks(&[d]);
        self.say_of_device(d, Word::Hold);
        self.ledger.held_devices.insert(d);
        self.put_hold(Held::Device(d));
    }

    fn revoke_device(&mut self) {
        let d = self.any_device();
        if self.ledger.revoked_devices.len() * 50 >= self.devices.len() {
            return;
        }
        self.plan_looks(&[d]);
        self.say_of_device(d, Word::Revoke(FinalReason::KeyCompromise));
        self.ledger.revoked_devices.insert(d);
        self.tally.devices_revoked += 1;
        self.remember_ended(&[d]);
    }

    fn say_of_device(&mut self, d: usize, word: Word) {
        let target = Target::Device(self.devices[d].ueid);
        let said = self.ca.get_mut().run(|ca, _, clock| {
            say(&ca.role().store, &target, word, clock.secs()).unwrap();
        });
        said.unwrap();
        self.tally.words += 1;
    }

    fn put_hold(&mut self, what: Held) {
        let hold = Hold {
            what,
            lifted: false,
        };
        self.holds.push(hold);
        let at = self.time.now_ms() + DAY_MS + self.below(40 * DAY_MS);
        self.queue.put(at, Event::Unhold(self.holds.len() - 1));
    }

    pub fn unhold(&mut self, hold: usize) {
        if std::mem::replace(&mut self.holds[hold].lifted, true) {
            return;
        }
        match &self.holds[hold].what {
            Held::Some(what) => {
                let what = what.clone();
                self.tally.lifted += self.say(&what, Word::Unhold).changed;
            }
            Held::Device(d) => {
                let d = *d;
                // Another hold of the same device may be lifted already.
                if self.ledger.held_devices.remove(&d) && !self.ledger.revoked_devices.contains(&d)
                {
                    self.say_of_device(d, Word::Unhold);
                }
            }
        }
    }

    fn stop_some(&mut self) {
        let batch = self.any_batch();
        self.stop_batch(&batch);
    }

    pub fn stop_batch(&mut self, batch: &str) {
        let what = Predicate {
            batch: Some(batch.to_owned()),
            ..Predicate::default()
        };
        let said = self.ca.get_mut().run(|ca, _, clock| {
            stop::stop(&ca.role().store, &what, clock.secs())
                .unwrap()
                .id
        });
        let stopped = Stopped {
            id: said.unwrap(),
            batch: batch.to_owned(),
        };
        if !self.ledger.stops.contains(&stopped) {
            self.tally.stops += 1;
            let at = self.time.now_ms() + DAY_MS + self.below(30 * DAY_MS);
            self.queue.put(at, Event::Lift(stopped.id));
            self.ledger.stops.push(stopped);
        }
    }

    pub fn lift(&mut self, id: i64) {
        let ca = self.ca.get_mut();
        ca.run(|ca, _, _| stop::lift(&ca.role().store, id).unwrap())
            .unwrap();
        self.ledger.stops.retain(|stop| stop.id != id);
    }

    // Servers.

    fn restart_servers(&mut self) {
        self.ca.get_mut().restart();
        self.tam.restart();
        self.verifier.get_mut().restart();
    }

    /// Some seconds to some days, either way, for some hours.
    fn put_server_clock_wrong(&mut self) {
        let scale = [10_000, 600_000, HOUR_MS, DAY_MS][self.below(4) as usize];
        let ms = scale * (1 + self.below(3)) * [1, -1][self.below(2) as usize];
        let now = self.time.now_ms();
        self.tally.server_clocks += 1;
        match self.below(3) {
            0 => {
                self.ca.get_mut().clock.jump(ms);
                let error = self.ca.get_mut().clock.error_ms();
                self.ledger.ca_error_ms = self.ledger.ca_error_ms.max(error);
            }
            1 => self.tam.clock.jump(ms),
            _ => self.verifier.get_mut().clock.jump(ms),
        }
        let until = now + HOUR_MS + self.below(11 * HOUR_MS);
        self.queue.put(until, Event::SetRight);
    }

    pub fn set_servers_right(&mut self) {
        self.ca.get_mut().clock.set_right();
        self.tam.clock.set_right();
        self.verifier.get_mut().clock.set_right();
    }

    /// A new issuing CA, perhaps under a new root. Whoever does this looks at the clock first.
    pub fn roll_over(&mut self, number: u32, root: bool) {
        if self.clocks_are_wrong() {
            let at = self.time.now_ms() + DAY_MS;
            return self.queue.put(at, Event::RollOver { number, root });
        }
        let next = Next {
            number,
            kind: if root { Kind::Root } else { Kind::Issuing },
            alg: None,
            leaked: false,
            // It was ahead for a while, perhaps, and the store remembers.
            sure: Sure {
                clock: true,
                leave_behind: false,
            },
        };
        // The command dies, and is repeated.
        let at = self.below(4) as u32;
        self.ca.get_mut().faults.arm(at);
        let made = loop {
            let rolled = self
                .ca
                .get_mut()
                .run(|ca, rng, clock| generation::roll_over(ca.role(), next, rng, clock.secs()));
            match rolled {
                Ok(made) => break made.unwrap(),
                Err(_) => self.tally.server_deaths += 1,
            }
        };
        self.ca.get_mut().faults.disarm();
        if root {
            for party in &mut self.parties {
                party.hear_of(&made.root.cert_der);
            }
        }
        self.tally.rollovers += 1;
    }

    pub fn sweep(&mut self) {
        let die = self.ill_luck(100);
        if die {
            let at = self.below(4) as u32;
            self.ca.get_mut().faults.arm(at);
        }
        loop {
            let swept = self
                .ca
                .get_mut()
                .run(|ca, _, clock| archive::sweep_some(&ca.role().store, KEEP_SECS, clock.secs()));
            match swept {
                Ok(swept) => {
                    let swept = swept.unwrap();
                    self.tally.archived += swept.archived;
                    if swept.rows() == 0 {
                        break;
                    }
                }
                Err(_) => self.tally.server_deaths += 1,
            }
        }
        self.ca.get_mut().faults.disarm();
        let now = self.now_secs();
        for party in &mut self.parties {
            party.forget(now);
        }
    }

    // Attackers.

    /// Something that nobody asked for comes to the CA: an old request again, one of another device
    /// altered, one whose key a stranger made.
    fn forge(&mut self) {
        if self.heard.is_empty() {
            return;
        }
        let d = self.any_device();
        for _ in 0..4 {
            self.tally.forgeries += 1;
            let n = self.below(self.heard.len() as i64) as usize;
            let mut message = self.heard[n].clone();
            match self.below(3) {
                0 => {}
                1 => message = crate::network::damage(&message, self.rng.borrow_mut().pick()),
                _ => self.put_own_key(&mut message),
            }
            self.at_ca(d, &message);
        }
    }

    /// Puts an attacker's key in the place of the one that a request is for.
    fn put_own_key(&mut self, message: &mut [u8]) {
        let Some(leaf) = self.cares[0].leaf.clone() else {
            return;
        };
        let len = CertView::from_der(&leaf).unwrap().spki_der.len();
        let key = PrivateKey::generate(KeyAlg::P256, &mut *self.rng.borrow_mut()).unwrap();
        let own = key.public_key().to_spki_der().unwrap();
        // What stands before the point is the same in every key of that curve.
        let head = &own[..own.len() - 64];
        let at = message.windows(head.len()).position(|part| part == head);
        if let Some(at) = at.filter(|at| at + len <= message.len()) {
            message[at..at + len].copy_from_slice(&own);
        }
    }

    // Looking.

    /// How long a relying party may believe an older answer (docs/ops/status.md).
    fn bound_secs(&self, kind: relying::Kind) -> u64 {
        let status = super::fleet::settings(false).status;
        match kind {
            relying::Kind::Ocsp => status.ocsp_life_secs,
            relying::Kind::Lists => status.crl_life_secs,
            relying::Kind::Deltas => status.delta_life_secs,
        }
    }

    /// What a relying party believes of a certificate that has not ended, held against the store.
    pub fn believes(&mut self, party: usize, leaf: &[u8]) -> Belief {
        self.tally.looks += 1;
        let now = self.now_secs();
        let view = CertView::from_der(leaf).unwrap();
        let ended = view.not_after_secs < now;
        if ended && self.parties[party].kind != relying::Kind::Ocsp {
            // Lists are of certificates that last.
            return Belief::Revoked;
        }
        let ca_now = self.ca.get_mut().clock.secs();
        let (ca, rng) = (self.ca.borrow(), &mut *self.rng.borrow_mut());
        let belief = self.parties[party].believes(ca.service(), leaf, rng, now, ca_now);
        drop(ca);
        let number = hex::encode(view.serial);
        let row = self.row(view.serial);
        let Some(row) = row.filter(|_| belief != Belief::Unknown) else {
            self.ledger.missing.push(format!("{number} is unknown"));
            return belief;
        };
        if belief == Belief::Good && !row.standing.is_good() {
            let kind = self.parties[party].kind;
            let mut bound = self.bound_secs(kind) + SLACK_SECS;
            if self.broken == Some(Broken::Patience) {
                bound = 0;
            }
            let since = row.standing.to_entry().map_or(0, |(at, _)| at.0);
            // The moment is by the CA's clock.
            let error = self.ledger.ca_error_ms / 1000;
            if since + bound + error < now {
                let told = format!(
                    "{number} reads good by {kind:?}, {} s after it was revoked",
                    now - since
                );
                self.ledger.stale.push(told);
            }
        }
        belief
    }

    pub fn look(&mut self, party: usize, serial: &[u8]) {
        let seen = self.ledger.certificates.get(serial);
        if let Some(leaf) = seen.map(|seen| seen.der.clone()) {
            self.believes(party, &leaf);
        }
    }

    /// Looks at every row: whose request it goes back to, and whether anything is missing.
    pub fn audit(&mut self) {
        self.tally.audits += 1;
        let mut devices = std::collections::BTreeMap::new();
        for (d, care) in self.cares.iter().enumerate() {
            devices.extend(care.row.map(|row| (row, d)));
        }
        let mut there = BTreeSet::new();
        let mut after = Vec::new();
        loop {
            let rows = self
                .ca
                .get_mut()
                .role()
                .store
                .read("audit", |tx| certificate::list(tx, &after, 1_000));
            let rows = rows.unwrap();
            let Some(last) = rows.last() else { break };
            after.clone_from(&last.intent.serial);
            for row in rows {
                let asked = devices.get(&row.intent.device);
                let asked = asked
                    .is_some_and(|d| self.devices[*d].requested.contains(&row.intent.csr_digest));
                if !asked {
                    let serial = hex::encode(&row.intent.serial);
                    let told = format!("no TA asked for {serial}");
                    self.ledger.forged.push(told);
                }
                there.insert(row.intent.serial);
            }
        }
        let mut missing = Vec::new();
        for (serial, seen) in &self.ledger.certificates {
            // What is not among those that serve is archived; what ended is still revoked.
            if there.contains(serial) && !seen.ended {
                continue;
            }
            let number = hex::encode(serial);
            match self.row(serial) {
                Some(row) if row.der.as_ref() != Some(&seen.der) => {
                    missing.push(format!("{number} is another certificate"));
                }
                Some(row) if seen.ended && row.standing.name() != "revoked" => {
                    missing.push(format!("{number} is no longer revoked"));
                }
                Some(_) => {}
                None => missing.push(format!("{number} is gone")),
            }
        }
        self.ledger.missing.extend(missing);
        // OCSP answers for what is archived too.
        for _ in 0..20 {
            let known = self.ledger.certificates.len() as i64;
            if known == 0 {
                break;
            }
            let n = self.below(known) as usize;
            let leaf = self
                .ledger
                .certificates
                .values()
                .nth(n)
                .unwrap()
                .der
                .clone();
            self.believes(0, &leaf);
        }
    }
}

/// How long certificates stay in the hot tables after their end.
const KEEP_SECS: u64 = 90 * 86_400;
/// Certificates that are looked at for each word.
const LOOKED_AT: usize = 3;
/// How far clocks of relying parties and of a right CA may differ.
const SLACK_SECS: u64 = 60;
