//! Relying parties: they look at certificates, ask for their status, and keep what they were told
//! for as long as it says that it is good. Signatures and times are checked here from the bytes
//! alone; nothing is asked of the store.

use std::collections::{BTreeMap, BTreeSet};

use der::asn1::{Any, BitString, GeneralizedTime, OctetString};
use der::{Decode as _, Encode as _, Sequence, Tagged as _};
use tegata_authority::UnixSecs;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::chain::{ChainError, Purpose, TrustAnchor, verify_chain};
use tegata_crypto::{Provider as _, PublicKey, Rng, ecdsa_sig};
use tegata_store::status::Scope;
use tegata_wire::x509::{CertView, RawDer, oid};
use x509_cert::crl::TbsCertList;

use crate::servers::CaService;

#[path = "../../../crates/store/tests/common/ocsp.rs"]
mod request;

/// What a relying party believes of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Belief {
    Good,
    Revoked,
    /// On hold: to be asked about again.
    Held,
    /// The CA does not know it.
    Unknown,
}

/// How it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ocsp,
    Lists,
    Deltas,
}

/// An answer of OCSP that is kept.
struct Told {
    belief: Belief,
    made: u64,
    until: u64,
}

/// A list that is kept.
#[derive(Default, Clone)]
struct List {
    revoked: BTreeMap<Vec<u8>, Belief>,
    /// Serial numbers that a delta takes off.
    lifted: BTreeSet<Vec<u8>>,
    number: u128,
    /// Number of the complete list that a delta goes on from.
    base: u128,
    made: u64,
    until: u64,
}

/// One relying party.
pub struct Party {
    pub kind: Kind,
    /// The roots that it trusts.
    roots: Vec<TrustAnchor>,
    /// Whether it hears of new roots.
    updated: bool,
    told: BTreeMap<Vec<u8>, Told>,
    lists: BTreeMap<u64, List>,
    deltas: BTreeMap<u64, List>,
}

impl Party {
    pub fn new(number: usize, root: &[u8]) -> Self {
        Self {
            roots: vec![TrustAnchor::from_cert_der(root).unwrap()],
            updated: number % 2 == 1,
            kind: [Kind::Ocsp, Kind::Lists, Kind::Deltas][number % 3],
            told: BTreeMap::new(),
            lists: BTreeMap::new(),
            deltas: BTreeMap::new(),
        }
    }

    /// Hears of a new root, and trusts it from then on, if it hears of any.
    pub fn hear_of(&mut self, root: &[u8]) {
        if self.updated {
            self.roots.push(TrustAnchor::from_cert_der(root).unwrap());
        }
    }

    /// Whether what a device shows leads to a root that it trusts.
    pub fn trusts(&self, leaf: &[u8], way: &[Vec<u8>], now: u64) -> Result<(), ChainError> {
        let way: Vec<&[u8]> = way.iter().map(Vec::as_slice).collect();
        verify_chain(&AwsLc, leaf, &way, &self.roots, Purpose::EndEntity, now).map(drop)
    }

    /// What it believes of a certificate of the CA at `now`, by what it kept, or by what the CA says
    /// if that is over. `ca_now` is what the CA takes for the time.
    pub fn believes(
        &mut self,
        ca: &CaService,
        certificate: &[u8],
        rng: &mut dyn Rng,
        now: u64,
        ca_now: UnixSecs,
    ) -> Belief {
        let view = CertView::from_der(certificate).unwrap();
        let generations = ca.generations().unwrap();
        let issuer = &generations.issuer_of(certificate).unwrap().ca.cert_der;
        match self.kind {
            Kind::Ocsp => {
                let kept = self.told.get(view.serial);
                if let Some(kept) = kept.filter(|kept| serves(kept.made, kept.until, now)) {
                    return kept.belief;
                }
                let id = request::cert_id_by(issuer, view.serial, false);
                let answer = ca.status.ocsp(&request::request(&id), rng, ca_now);
                let told = read_response(&answer.published.der, issuer);
                let belief = told.belief;
                // What is of the future, or over already, is not kept.
                if serves(told.made, told.until, now) {
                    self.told.insert(view.serial.to_vec(), told);
                }
                belief
            }
            Kind::Lists | Kind::Deltas => {
                let belief = self.listed(ca, issuer, certificate, now, ca_now);
                // As above.
                let keeps = |list: &List| serves(list.made, list.until, now);
                self.lists.retain(|_, list| keeps(list));
                self.deltas.retain(|_, list| keeps(list));
                belief
            }
        }
    }

    fn listed(
        &mut self,
        ca: &CaService,
        issuer: &[u8],
        certificate: &[u8],
        now: u64,
        ca_now: UnixSecs,
    ) -> Belief {
        let serial = CertView::from_der(certificate).unwrap().serial;
        let shard = shard_of(certificate);
        let fetch = |delta| {
            let list = ca.status.list(Scope::Shard(shard), delta, ca_now).unwrap();
            read_list(&list.der, issuer)
        };
        let keeps = |list: Option<&List>| list.is_some_and(|l| serves(l.made, l.until, now));
        if !keeps(self.lists.get(&shard)) {
            self.lists.insert(shard, fetch(false));
            self.deltas.remove(&shard);
        }
        let list = &self.lists[&shard];
        let believed = |list: &List| list.revoked.get(serial).copied();
        if self.kind == Kind::Lists {
            return believed(list).unwrap_or(Belief::Good);
        }
        let delta = match self.deltas.remove(&shard) {
            Some(delta) if keeps(Some(&delta)) => delta,
            _ => fetch(true),
        };
        let delta = &*self.deltas.entry(shard).or_insert(delta);
        // A delta says nothing of what came before its base. Spec: RFC 5280 section 5.2.4.
        let list = match list.number >= delta.base {
            true => list,
            false => {
                self.lists.insert(shard, fetch(false));
                &self.lists[&shard]
            }
        };
        if delta.lifted.contains(serial) {
            return Belief::Good;
        }
        believed(delta).or(believed(list)).unwrap_or(Belief::Good)
    }

    /// Forgets what is over.
    pub fn forget(&mut self, now: u64) {
        self.told.retain(|_, kept| kept.until > now);
        self.lists.retain(|_, kept| kept.until > now);
        self.deltas.retain(|_, kept| kept.until > now);
    }
}

/// Neither of the future nor over.
fn serves(made: u64, until: u64, now: u64) -> bool {
    made <= now + SLACK_SECS && now < until
}

/// How far a relying party's clock may be from the CA's.
const SLACK_SECS: u64 = 60;

/// The shard in the address that a certificate names.
fn shard_of(certificate: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(certificate);
    let rest = text.split("/crl/").nth(1).unwrap();
    let name = rest.split('/').nth(1).unwrap();
    name.split(".crl").next().unwrap().parse().unwrap()
}

#[derive(Sequence)]
struct ResponseBytes {
    kind: RawDer,
    response: OctetString,
}

#[derive(Sequence)]
struct Response {
    status: Any,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    bytes: Option<ResponseBytes>,
}

#[derive(Sequence)]
struct Basic {
    tbs: RawDer,
    alg: RawDer,
    signature: BitString,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    certs: Option<Vec<RawDer>>,
}

#[derive(Sequence)]
struct ResponseData {
    responder: Any,
    produced: GeneralizedTime,
    responses: Vec<Single>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    extensions: Option<Any>,
}

#[derive(Sequence)]
struct Single {
    id: RawDer,
    status: Any,
    this_update: GeneralizedTime,
    #[asn1(context_specific = "0", optional = "true", tag_mode = "EXPLICIT")]
    next_update: Option<GeneralizedTime>,
    #[asn1(context_specific = "1", optional = "true", tag_mode = "EXPLICIT")]
    extensions: Option<Any>,
}

#[derive(Sequence)]
struct SignedList {
    tbs: RawDer,
    alg: RawDer,
    signature: BitString,
}

/// The key of a certificate signed this.
fn check(key: &PublicKey, tbs: &[u8], signature: &[u8]) {
    let raw = ecdsa_sig::from_der(key.alg(), signature).unwrap();
    AwsLc.verify(key, tbs, &raw).unwrap();
}

fn read_response(der: &[u8], issuer: &[u8]) -> Told {
    let response = Response::from_der(der).unwrap();
    assert_eq!(response.status.value(), [0], "the responder failed");
    let basic = Basic::from_der(response.bytes.unwrap().response.as_bytes()).unwrap();
    let issuer = CertView::from_der(issuer).unwrap();
    let issuer_key = PublicKey::from_spki_der(issuer.spki_der).unwrap();
    let responder = &basic.certs.unwrap()[0];
    let responder = CertView::from_der(responder.as_bytes()).unwrap();
    check(&issuer_key, responder.tbs_der, responder.signature);
    let key = PublicKey::from_spki_der(responder.spki_der).unwrap();
    check(&key, basic.tbs.as_bytes(), basic.signature.raw_bytes());
    let data = ResponseData::from_der(basic.tbs.as_bytes()).unwrap();
    let one = &data.responses[0];
    let belief = match one.status.tag().number().value() {
        0 => Belief::Good,
        1 if one.status.to_der().unwrap().ends_with(&[0x0a, 1, HOLD]) => Belief::Held,
        1 => Belief::Revoked,
        _ => Belief::Unknown,
    };
    let secs = |time: &GeneralizedTime| time.to_unix_duration().as_secs();
    Told {
        belief,
        made: secs(&one.this_update),
        until: secs(one.next_update.as_ref().unwrap()),
    }
}

fn read_list(der: &[u8], issuer: &[u8]) -> List {
    let signed = SignedList::from_der(der).unwrap();
    let issuer = CertView::from_der(issuer).unwrap();
    let key = PublicKey::from_spki_der(issuer.spki_der).unwrap();
    check(&key, signed.tbs.as_bytes(), signed.signature.raw_bytes());
    let tbs = TbsCertList::<x509_cert::certificate::Rfc5280>::from_der(signed.tbs.as_bytes());
    let tbs = tbs.unwrap();
    let number = |oid| {
        let extensions = tbs.crl_extensions.iter().flatten();
        let mut found = extensions.filter(|e| e.extn_id == oid);
        let value = found.next().map(|e| e.extn_value.as_bytes().to_vec());
        // An INTEGER: after tag and length the number itself.
        value.map(|der| {
            der.iter()
                .skip(2)
                .fold(0u128, |n, b| n << 8 | u128::from(*b))
        })
    };
    let mut list = List {
        number: number(oid::CRL_NUMBER).unwrap(),
        base: number(oid::DELTA_CRL_INDICATOR).unwrap_or(0),
        made: tbs.this_update.to_unix_duration().as_secs(),
        until: tbs.next_update.unwrap().to_unix_duration().as_secs(),
        ..List::default()
    };
    for entry in tbs.revoked_certificates.unwrap_or_default() {
        let reason = entry.crl_entry_extensions.unwrap_or_default();
        let reason = reason
            .iter()
            .find(|e| e.extn_id == oid::CRL_REASON)
            .and_then(|e| e.extn_value.as_bytes().last().copied());
        let serial = entry.serial_number.as_bytes().to_vec();
        match reason {
            Some(LIFTED) => {
                list.lifted.insert(serial);
            }
            Some(HOLD) => {
                list.revoked.insert(serial, Belief::Held);
            }
            _ => {
                list.revoked.insert(serial, Belief::Revoked);
            }
        }
    }
    list
}

/// certificateHold.
const HOLD: u8 = 6;
/// removeFromCRL.
const LIFTED: u8 = 8;
