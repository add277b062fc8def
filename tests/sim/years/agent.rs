//! A device wakes: somebody looks at its certificate, and its agent does what the agent's daemon
//! does (crates/agent/src/renew.rs), over lines on which everything may happen.

use der::{Decode as _, Reader as _, SliceReader};
use tegata_store::attested;
use tegata_store::issuer::CmpOutcome;
use tegata_store::tam::TeepAnswer;
use tegata_tee::gp::consts::{TEE_ERROR_ACCESS_DENIED, TEE_ERROR_ITEM_NOT_FOUND};
use tegata_tee::gp::params::Param;
use tegata_tee::teep::{Payloads, TeepOutcome};
use tegata_tee::testing::Crash;
use tegata_wire::cbor::{self, Value};
use tegata_wire::cmp::{
    BodyKind, PkiBody, PkiFailureInfo, PkiStatus, PkiStatusInfo, UnverifiedPkiMessage,
};
use tegata_wire::enrolment::CHECK_IN_FIRST;
use tegata_wire::x509::{CertView, RawDer};

use super::fleet::{Fleet, WINDOW_DAYS};
use super::queue::{DAY_MS, Event, HOUR_MS};
use super::relying::Belief;
use super::self_test::Broken;
use crate::asked::Asked;
use crate::device::{App, Failed, LABELS, Slot, bytes_in, command};
use crate::network::damage;
use crate::servers::{self, Lines};
use crate::world::CMP_PROFILE;

/// The one slot of each device.
pub const SLOT: Slot = (App::Main, LABELS[0]);

/// What the TA says of the slot.
struct Status {
    ends: u64,
    renew_at: u64,
    due: bool,
    /// The next certificate is under way.
    begun: bool,
    now: u64,
}

/// What came of an enrolment.
enum Came {
    Installed,
    Refused {
        said: String,
        by_certificate: bool,
        /// It has not decided, or cannot answer now.
        later: bool,
    },
    Failed(String),
}

impl Fleet {
    /// A device is awake.
    pub fn wake(&mut self, d: usize) {
        self.tally.wakes += 1;
        if std::mem::take(&mut self.cares[d].was_off) {
            self.devices[d].platform.clock.switched_on();
        }
        if self.ill_luck(15) {
            self.put_clock_wrong(d);
        }
        self.contact(d);
        let now = self.time.now_ms();
        let care = &self.cares[d];
        let old_ta = care.sequence < self.newest.0;
        if care.due_ms > now && !care.refused && !old_ta && care.failures == 0 {
            return self.sleep(d);
        }
        self.troubled = self.clocks_are_wrong();
        let log = self.visit(d);
        self.devices[d].power_off();
        self.tally.visits += 1;
        self.judge(d, &log);
        if self.ledger.revoked_devices.contains(&d) {
            // Nobody will look after it any more.
            return;
        }
        self.sleep(d);
    }

    /// Whether the try helped, and if not, whether it should have.
    fn judge(&mut self, d: usize, log: &[String]) {
        if self.is_served(d) {
            let care = &mut self.cares[d];
            (care.tries, care.failures, care.refused) = (0, 0, false);
            return;
        }
        self.cares[d].failures += 1;
        self.cares[d].obstructed = self.is_obstructed(d);
        if self.troubled || self.cares[d].obstructed {
            return;
        }
        self.cares[d].tries += 1;
        if self.cares[d].tries >= CLEAR_TRIES {
            let told = format!("device {d}: {}", log.join("; "));
            self.ledger.locked_out.push(told);
        }
    }

    /// Until it wakes again, with power or without.
    fn sleep(&mut self, d: usize) {
        let now = self.time.now_ms();
        let care = &self.cares[d];
        let mut pause = match care.failures {
            0 => (care.due_ms - now).clamp(DAY_MS, 20 * DAY_MS + self.below(60 * DAY_MS)),
            _ if care.obstructed => DAY_MS + self.below(8 * DAY_MS),
            n => (HOUR_MS << n.min(6)) + self.below(HOUR_MS),
        };
        if self.ill_luck(70) {
            let days = match self.below(20) {
                0 => 150 + self.below(350),
                1..=5 => 21 + self.below(150),
                _ => 1 + self.below(21),
            };
            pause = days * DAY_MS;
            self.cares[d].was_off = true;
            self.tally.power_offs += 1;
            self.tally.longest_off_days = self.tally.longest_off_days.max(days);
        }
        self.queue.put(now + pause, Event::Wake(d));
    }

    fn put_clock_wrong(&mut self, d: usize) {
        let clock = self.devices[d].platform.clock.clone();
        if clock.error_ms() != 0 {
            return;
        }
        let ms = match self.below(4) {
            0 => -self.time.now_ms(),
            1 => -(1 + self.below(400)) * DAY_MS,
            2 => (1 + self.below(400)) * DAY_MS,
            _ => (1 + self.below(100)) * HOUR_MS,
        };
        clock.jump(ms);
        self.tally.device_clocks += 1;
        let until = self.time.now_ms() + (1 + self.below(60)) * DAY_MS;
        self.queue.put(until, Event::SetDeviceRight(d));
    }

    /// A relying party looks at the device's certificate, when the device shows it.
    pub fn contact(&mut self, d: usize) {
        let Some(leaf) = self.cares[d].leaf.clone() else {
            return;
        };
        let party = self.below(self.parties.len() as i64) as usize;
        let now = self.now_secs();
        let view = CertView::from_der(&leaf).unwrap();
        let valid = (view.not_before_secs..=view.not_after_secs).contains(&now);
        let belief = self.believes(party, &leaf);
        if let Err(error) = self.parties[party].trusts(&leaf, &self.cares[d].way, now)
            && valid
            && !self.cares[d].cut.1
        {
            let told = format!("device {d} at party {party}: {error}");
            self.ledger.distrusted.push(told);
        }
        self.cares[d].refused = !valid || belief == Belief::Revoked;
    }

    /// The device shows a certificate that serves, by the true time.
    pub fn is_served(&self, d: usize) -> bool {
        let Some(leaf) = &self.cares[d].leaf else {
            return false;
        };
        let view = CertView::from_der(leaf).unwrap();
        let valid = (view.not_before_secs..=view.not_after_secs).contains(&self.now_secs());
        let row = self.row(view.serial);
        valid && row.is_some_and(|row| row.der.as_ref() == Some(leaf) && row.standing.is_good())
    }

    /// Somebody keeps the device from it who may.
    fn is_obstructed(&mut self, d: usize) -> bool {
        if self.clocks_are_wrong() || self.ledger.is_refused(d, &self.cares[d].batch) {
            return true;
        }
        let rows = self.rows(d);
        if rows.iter().any(|row| row.standing.name() == "held") {
            return true;
        }
        let Some(row) = self.cares[d].row else {
            return true;
        };
        let ca = self.ca.get_mut();
        let end = ca
            .role()
            .store
            .read("end", |tx| attested::last_end(tx, row, CMP_PROFILE));
        let end = end.unwrap().unwrap_or(i64::MAX);
        let profiles = ca.service().profiles();
        let grace = profiles.find(CMP_PROFILE).unwrap().renewal_grace_secs as i64;
        let away = !self.helping && end.saturating_add(grace) < self.now_secs() as i64;
        if away && !self.help_asked {
            self.help_asked = true;
            let at = self.time.now_ms() + DAY_MS + self.below(9 * DAY_MS);
            self.queue.put(at, Event::Help(true));
        }
        away
    }

    /// The agent does what there is to do; what came of it, for people.
    pub fn visit(&mut self, d: usize) -> Vec<String> {
        let mut log = Vec::new();
        if self.ill_luck(20) {
            let crash = [Crash::Kept, Crash::Lost][self.below(2) as usize];
            let at = self.below(14) as u64;
            self.devices[d].platform.medium.crash_at(at, crash);
            self.troubled = true;
        }
        if !self.devices[d].boot() {
            return vec![self.died(d, Failed::Dead)];
        }
        let ta = self.ta;
        let has = matches!(self.devices[d].record(&ta), Ok(Some(_)));
        if !has || self.cares[d].sequence < self.newest.0 {
            log.push(self.check_in(d, !has));
        }
        match self.status(d) {
            Ok(Some(status)) => {
                if self.cares[d].refused || status.due || status.begun {
                    log.extend(self.renew(d, &status));
                }
            }
            Ok(None) => log.push(match self.enrol(d) {
                Came::Installed => "installed".into(),
                Came::Refused { said, .. } => format!("the CA: {said}"),
                Came::Failed(why) => why,
            }),
            Err(failed) => log.push(self.died(d, failed)),
        }
        self.see(d);
        log
    }

    /// What serves now, and when to come again.
    fn see(&mut self, d: usize) {
        let now = self.time.now_ms();
        self.cares[d].due_ms = now;
        let Ok(Some(status)) = self.status(d) else {
            return;
        };
        let ta = self.ta;
        let all = Some(Param::ValueInput { a: 2, b: 0 });
        let all = self.devices[d].call(&ta, SLOT.0, command::GET_CERTIFICATE, SLOT.1, all);
        let Ok(all) = all else { return };
        let mut reader = SliceReader::new(&all).unwrap();
        let mut shown = Vec::new();
        while !reader.is_finished() {
            shown.push(RawDer::decode(&mut reader).unwrap().into_bytes());
        }
        let leaf = shown.remove(0);
        let wait = status.renew_at.saturating_sub(status.now) as i64;
        self.cares[d].due_ms = now + wait * 1000;
        let serial = CertView::from_der(&leaf).unwrap().serial.to_vec();
        match self.ledger.certificates.get_mut(&serial) {
            Some(seen) if seen.device == d => seen.installed = true,
            _ => self.ledger.forged.push(format!(
                "device {d} has a certificate that the CA never gave it"
            )),
        }
        let care = &mut self.cares[d];
        if care.leaf.as_ref() != Some(&leaf) {
            care.cut.1 = std::mem::take(&mut care.cut.0);
        }
        care.way = shown;
        care.leaf = Some(leaf);
    }

    fn status(&mut self, d: usize) -> Result<Option<Status>, Failed> {
        let ta = self.ta;
        let told = self.devices[d].call(&ta, SLOT.0, command::STATUS, SLOT.1, None);
        let told = match told {
            Err(Failed::Code(TEE_ERROR_ITEM_NOT_FOUND)) => return Ok(None),
            other => other?,
        };
        let Value::Map(entries) = cbor::decode(&told, 2).unwrap() else {
            panic!("STATUS is no map")
        };
        let entry = |key: u64| {
            let mut entries = entries.iter();
            let found = entries.find(|(k, _)| cbor::uint(k, "key").ok() == Some(key));
            found.map(|(_, value)| value)
        };
        let number = |key| entry(key).map(|value| cbor::uint(value, "time").unwrap());
        let Some(ends) = number(3) else {
            return Ok(None);
        };
        Ok(Some(Status {
            ends,
            renew_at: number(4).unwrap(),
            due: entry(6) == Some(&Value::Bool(true)),
            begun: entry(10).is_some(),
            now: number(11).unwrap(),
        }))
    }

    fn has_ended(&mut self, d: usize) -> bool {
        let status = self.status(d).ok().flatten();
        status.is_some_and(|status| status.ends < status.now)
    }

    /// As `tegata_agent::renew::renew`.
    fn renew(&mut self, d: usize, status: &Status) -> Vec<String> {
        let mut log = Vec::new();
        let mut visited = status.ends < status.now;
        if visited {
            log.push(self.check_in(d, false));
        }
        let mut refusals = 0;
        loop {
            let (said, by_certificate, later) = match self.enrol(d) {
                Came::Installed => {
                    log.push("installed".into());
                    return log;
                }
                Came::Failed(why) => {
                    log.push(why);
                    return log;
                }
                Came::Refused {
                    said,
                    by_certificate,
                    later,
                } => (said, by_certificate, later),
            };
            log.push(format!("the CA: {said} (kur: {by_certificate})"));
            refusals += 1;
            let needs_evidence = said == CHECK_IN_FIRST;
            let again = match (by_certificate, refusals) {
                (true, 1) => true,
                (true, 2) if !later && self.has_ended(d) => {
                    self.give_up(d);
                    true
                }
                (true, _) => false,
                (false, _) => needs_evidence && !visited,
            };
            if !again {
                return log;
            }
            if !visited && (needs_evidence || self.has_ended(d)) {
                visited = true;
                log.push(self.check_in(d, false));
            }
        }
    }

    /// The agent asks for the next certificate, and visits the TAM for nothing else.
    pub fn renew_now(&mut self, d: usize) -> Vec<String> {
        assert!(self.devices[d].boot());
        let status = self.status(d).unwrap().expect("a certificate");
        let log = self.renew(d, &status);
        self.see(d);
        log
    }

    /// The next certificate is given up, if one is under way.
    pub fn give_up(&mut self, d: usize) {
        let next = Some(Param::ValueInput { a: 1, b: 0 });
        let ta = self.ta;
        let _ = self.devices[d].call(&ta, SLOT.0, command::DELETE, SLOT.1, next);
    }

    /// As `tegata_agent::enrol::enrol`.
    fn enrol(&mut self, d: usize) -> Came {
        let ta = self.ta;
        let begun = match self.devices[d].begin(&ta, SLOT) {
            Ok(begun) => begun.message,
            Err(failed) => return Came::Failed(self.died(d, failed)),
        };
        let kind = UnverifiedPkiMessage::from_der(&begun).unwrap().kind();
        self.devices[d].requested.insert(Asked::of(&begun).digest);
        self.record(&begun);
        let Some(answer) = self.carry(d, &begun) else {
            return Came::Failed("no answer to the request".into());
        };
        let finish = command::ENROL_FINISH;
        let conf = match self.devices[d].call(&ta, SLOT.0, finish, SLOT.1, bytes_in(&answer)) {
            Ok(conf) => conf,
            Err(Failed::Code(TEE_ERROR_ACCESS_DENIED)) => {
                let status = status_of(&answer);
                let text = status.as_ref().and_then(|status| status.text());
                return Came::Refused {
                    said: text.unwrap_or_default().to_owned(),
                    by_certificate: kind == BodyKind::Kur,
                    later: status.is_some_and(|status| is_for_now(&status)),
                };
            }
            Err(failed) => return Came::Failed(self.died(d, failed)),
        };
        if self.broken == Some(Broken::Confirmations) {
            return Came::Failed("the confirmation is not carried".into());
        }
        let ended = self.last_ended(d);
        let Some(answer) = self.carry(d, &conf) else {
            return Came::Failed("no answer to the confirmation".into());
        };
        if self.broken == Some(Broken::PkiConf) {
            return Came::Failed("no answer to the confirmation".into());
        }
        let confirm = command::ENROL_CONFIRM;
        match self.devices[d].call(&ta, SLOT.0, confirm, SLOT.1, bytes_in(&answer)) {
            Ok(_) => {
                *match (kind, ended) {
                    (BodyKind::Kur, _) => &mut self.tally.renewed,
                    (_, None) => &mut self.tally.first,
                    (_, Some(true)) => &mut self.tally.returned,
                    (_, Some(false)) => &mut self.tally.replaced,
                } += 1;
                Came::Installed
            }
            Err(failed) => Came::Failed(self.died(d, failed)),
        }
    }

    /// Whether the certificate before has ended; `None` if there was none.
    fn last_ended(&self, d: usize) -> Option<bool> {
        let leaf = self.cares[d].leaf.as_ref()?;
        Some(CertView::from_der(leaf).unwrap().not_after_secs < self.now_secs())
    }

    fn died(&mut self, d: usize, failed: Failed) -> String {
        if failed == Failed::Dead {
            self.tally.device_deaths += 1;
            self.devices[d].platform.clock.switched_on();
        }
        failed.to_string()
    }

    // Lines.

    /// Somebody on the way keeps a copy, for years.
    fn record(&mut self, message: &[u8]) {
        if self.below(20) == 0 {
            if self.heard.len() >= HEARD_MAX {
                let at = self.below(HEARD_MAX as i64) as usize;
                self.heard.swap_remove(at);
            }
            self.heard.push(message.to_vec());
        }
    }

    /// A message to the CA and its answer, with what the agent repeats.
    fn carry(&mut self, d: usize, message: &[u8]) -> Option<Vec<u8>> {
        for _ in 0..ATTEMPTS {
            self.time.advance(40);
            if let Some(answer) = self.ask_ca(d, message) {
                return Some(answer);
            }
            self.troubled = true;
            self.time.advance(2_000);
        }
        None
    }

    fn ask_ca(&mut self, d: usize, message: &[u8]) -> Option<Vec<u8>> {
        let mut sent = message.to_vec();
        if self.ill_luck(25) {
            self.tally.lost += 1;
            return None;
        }
        if self.ill_luck(10) {
            sent = self.damaged(&sent);
        }
        if self.ill_luck(10) {
            self.tally.doubled += 1;
            self.at_ca(d, &sent);
        }
        if self.ill_luck(10) {
            self.tally.late += 1;
            let at = self.time.now_ms() + self.below(400 * DAY_MS);
            let message = sent.clone();
            self.queue.put(at, Event::Late { device: d, message });
        }
        let armed = self.ill_luck(8);
        if armed {
            let at = self.below(6) as u32;
            self.ca.get_mut().faults.arm(at);
        }
        let answer = self.at_ca(d, &sent);
        if armed {
            self.ca.get_mut().faults.disarm();
        }
        let answer = answer?;
        if self.ill_luck(25) {
            self.tally.lost += 1;
            return None;
        }
        if self.ill_luck(10) {
            self.cares[d].cut.0 = true;
            return Some(self.damaged(&answer));
        }
        Some(answer)
    }

    fn damaged(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.tally.damaged += 1;
        self.troubled = true;
        damage(bytes, self.rng.borrow_mut().pick())
    }

    /// One message at the CA's port.
    pub fn at_ca(&mut self, from: usize, message: &[u8]) -> Option<Vec<u8>> {
        let answer = match servers::cmp(self.ca.get_mut(), CMP_PROFILE, message) {
            Ok(answer) => answer,
            Err(_) => {
                self.tally.server_deaths += 1;
                self.troubled = true;
                return None;
            }
        };
        match &answer.outcome {
            CmpOutcome::Issued {
                ueid,
                certificate,
                again,
                serial,
                ..
            } => {
                let d = self.by_ueid[ueid];
                let digest = Asked::of(message).digest;
                self.tally.issued += u64::from(!again);
                if !self.devices[d].requested.contains(&digest) {
                    let told = format!("device {d} never asked for what {from} got");
                    self.ledger.forged.push(told);
                }
                let batch = &self.cares[d].batch;
                if !again && self.ledger.is_refused(d, batch) && self.is_of_now(serial) {
                    let told = format!("device {d} got {}", hex::encode(serial));
                    self.ledger.defied.push(told);
                }
                self.ledger.issued(d, digest, certificate);
                self.check_overlap(d);
            }
            CmpOutcome::Confirmed { ueid, .. } => {
                let d = self.by_ueid[ueid];
                self.check_overlap(d);
            }
            CmpOutcome::Denied(_) => self.tally.refused += 1,
            _ => {}
        }
        (!answer.body.is_empty()).then_some(answer.body)
    }

    /// Serial numbers begin with the time. What was fixed before the operator's word, and a crash
    /// left unsigned, is finished after it: a stop is about what comes.
    fn is_of_now(&mut self, serial: &[u8]) -> bool {
        let ms = serial
            .iter()
            .take(6)
            .fold(0u64, |ms, b| ms << 8 | u64::from(*b));
        self.ca.get_mut().clock.now().0.saturating_sub(ms) < 1_000
    }

    /// Certificates of a slot that live on. Of those that the device confirmed all but one end within the
    /// renewal window; of those that were answered and never confirmed there are some at most. A hold that
    /// was lifted gives a certificate back whatever came since: that is the operator's word.
    pub fn check_overlap(&mut self, d: usize) {
        let now = self.now_secs();
        let slack = self.ledger.ca_error_ms / 1000 + 600;
        let soon = now + WINDOW_DAYS * 86_400 + slack;
        let live = self.rows(d).into_iter().filter(|row| {
            let standing = row.standing;
            let good = standing.is_good() && standing.to_entry().is_none();
            good && row.rejected_at.is_none() && row.intent.not_after > soon as i64
        });
        let (confirmed, others): (Vec<_>, Vec<_>) =
            live.partition(|row| row.confirmed_at.is_some());
        let most = self.tally.unconfirmed_max.max(others.len());
        self.tally.unconfirmed_max = most;
        for (rows, most) in [(confirmed, 1), (others, UNCONFIRMED_MAX)] {
            if rows.len() > most {
                let serials: Vec<String> = rows
                    .iter()
                    .map(|row| hex::encode(&row.intent.serial))
                    .collect();
                let told = format!("device {d}: {} live on", serials.join(" and "));
                self.ledger.overlaps.push(told);
            }
        }
    }

    /// A visit of the TAM.
    fn check_in(&mut self, d: usize, want: bool) -> String {
        self.tally.check_ins += 1;
        let ta = self.ta;
        match self.devices[d].contact(&ta, want) {
            Ok(true) => {}
            Ok(false) => return "nothing to ask the TAM".into(),
            Err(failed) => return self.died(d, failed),
        }
        let mut message = Vec::new();
        for _ in 0..TEEP_MESSAGES_MAX {
            let answer = match self.ask_tam(&message) {
                Ok(answer) => answer,
                Err(why) => {
                    self.devices[d].process_error();
                    return format!("TAM: {why}");
                }
            };
            if answer.is_empty() {
                break;
            }
            match self.devices[d].handle_teep(&answer, &Payloads::new()) {
                Ok(Ok(TeepOutcome::Reply(reply))) => message = reply,
                Ok(Ok(_)) => break,
                Ok(Err(error)) => return format!("TEE: {error}"),
                Err(failed) => return self.died(d, failed),
            }
        }
        let record = self.devices[d].record(&ta);
        if let Ok(Some((sequence, _))) = record
            && self.cares[d].sequence != sequence
        {
            self.tally.installs += 1;
            self.cares[d].sequence = sequence;
        }
        "checked in".into()
    }

    fn ask_tam(&mut self, message: &[u8]) -> Result<Vec<u8>, String> {
        self.time.advance(40);
        if self.ill_luck(15) {
            self.tally.lost += 1;
            self.troubled = true;
            return Err("lost".into());
        }
        let trouble = self.ill_luck(15);
        if trouble {
            self.troubled = true;
            let at = self.below(4) as u32;
            match self.below(3) {
                0 => self.tam.faults.arm(at),
                1 => self.verifier.get_mut().faults.arm(at),
                _ => self.ca.get_mut().faults.arm(at),
            }
        }
        let lines = Lines {
            ca: &self.ca,
            verifier: &self.verifier,
            tap: &self.tap,
            rng: &self.rng,
            trouble_percent: if trouble { 30 } else { 0 },
            altered: self.altered,
        };
        let done = servers::teep(&mut self.tam, &lines, message);
        *self.tap.borrow_mut() = Default::default();
        if trouble {
            self.tam.faults.disarm();
            self.verifier.get_mut().faults.disarm();
            self.ca.get_mut().faults.disarm();
        }
        match done {
            Ok(Ok((TeepAnswer::Message(bytes), _))) => Ok(bytes),
            Ok(Ok((TeepAnswer::Nothing, _))) => Ok(Vec::new()),
            Ok(Err(fault)) => Err(fault.to_string()),
            Err(_) => {
                self.tally.server_deaths += 1;
                Err("died".into())
            }
        }
    }
}

/// What the CA says that refuses.
pub fn status_of(answer: &[u8]) -> Option<PkiStatusInfo> {
    let message = UnverifiedPkiMessage::from_der(answer).unwrap();
    match message.body().decode() {
        Ok(PkiBody::Error(content)) => Some(content.status),
        Ok(PkiBody::Cp(rep) | PkiBody::Kup(rep)) => rep.response.first().map(|r| r.status.clone()),
        _ => None,
    }
}

/// Whether it says nothing for good.
fn is_for_now(status: &PkiStatusInfo) -> bool {
    let busy = PkiFailureInfo::SYSTEM_UNAVAIL.bits();
    let failed = status.fail_info.is_some_and(|info| info.bits() & busy != 0);
    failed || status.status != PkiStatus::Rejection
}

/// Tries without trouble after which a device must be served.
const CLEAR_TRIES: u32 = 4;
/// Certificates of a slot that live on, of those that were answered and never confirmed: the one under
/// way, and what an update of the TA, or its owner, gave up after the CA had answered it.
const UNCONFIRMED_MAX: usize = 3;
/// How often the agent sends a message.
const ATTEMPTS: u32 = 3;
const TEEP_MESSAGES_MAX: u32 = 6;
const HEARD_MAX: usize = 400;
