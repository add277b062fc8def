//! Steps 6 to 14: request, response, confirmation.
//!
//! A label has at most one request under way and one installed certificate; the installed one
//! works until the next is confirmed. Every step can be repeated: the same request, the same
//! confirmation comes out. Bytes from outside change nothing before the CA's signature over them,
//! and the transaction and nonce in them, have been checked.

use alloc::string::String;
use alloc::vec::Vec;

use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::object::Object;
use tegata_ta_sdk::{Error, Result, crypto, system};
use tegata_wire::cmp::{CERT_REQ_ID, HashAlg, KeyUpdate, NONCE_BYTES, P10CR_CERT_REQ_ID, RawBody};
use tegata_wire::enrolment::{CertificateOrder, ConfirmMode, RenewalToken, SenderKid, token_input};
use tegata_wire::x509::{CertView, CsrBuilder, SignatureAlg, assemble_csr, cert_id};

use crate::device::Orders;
use crate::limits::Budget;
use crate::message::{self, Answer, MessageView};
use crate::record::{Name, Record, Slot};
use crate::sender::{Holder, Sender};
use crate::{cert, chain, clock, keys};

fn bug<E>(_: E) -> Error {
    Error(TEE_ERROR_GENERIC)
}

fn malformed<E>(_: E) -> Error {
    Error(TEE_ERROR_BAD_FORMAT)
}

/// The signature algorithm of a record's key.
///
/// # Errors
/// `TEE_ERROR_CORRUPT_OBJECT` if there is no such algorithm.
pub fn alg_of(record: &Record) -> Result<SignatureAlg> {
    tegata_wire::enrolment::KeyKind::from_cose_alg(record.cose_alg)
        .ok_or(Error(TEE_ERROR_CORRUPT_OBJECT))
        .and_then(keys::signature_alg)
}

/// What a stored request of ours is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// A p10cr, by the release.
    ByRelease,
    /// A kur, by the certificate that serves.
    ByHolder,
}

impl Asked {
    fn of(request: &MessageView<'_>) -> Result<Self> {
        match request.kind {
            message::P10CR => Ok(Self::ByRelease),
            message::KUR => Ok(Self::ByHolder),
            _ => Err(Error(TEE_ERROR_CORRUPT_OBJECT)),
        }
    }

    /// The kind of body that answers it.
    const fn answer(self) -> u32 {
        match self {
            Self::ByRelease => message::CP,
            Self::ByHolder => message::KUP,
        }
    }

    /// certReqId of the answer and the confirmation.
    const fn cert_req_id(self) -> i64 {
        match self {
            Self::ByRelease => P10CR_CERT_REQ_ID,
            Self::ByHolder => CERT_REQ_ID,
        }
    }
}

/// True if the request under way is still the one to make: of this release, or by the certificate
/// that serves and for a key of the kind that is ordered.
fn is_current(
    pending: &Record,
    order: &CertificateOrder,
    orders: &Orders,
    holder: Option<&Holder>,
) -> Result<bool> {
    Ok(
        match Asked::of(&MessageView::from_der(&pending.request)?)? {
            // A newer release has other secrets and perhaps other orders.
            Asked::ByRelease => pending.sender_kid == orders.sender_kid()?,
            Asked::ByHolder => {
                holder.is_some_and(|holder| holder.key_id == pending.sender_kid)
                    && pending.key_usage == order.key_usage
                    && pending.cose_alg == order.key_kind.cose_alg()
            }
        },
    )
}

/// Steps 6 to 9: key pair, request. A request under way is given out again as it was.
///
/// Returns the request and the path of the CMP resource that it goes to. A label is of one profile:
/// without `profile` it is the one it has, or the release's first. The new key is made beside the
/// installed one, which serves until the new one is confirmed. Where there is a certificate whose
/// key can sign, that key asks (kur), whatever any clock says; else, and once the CA has refused
/// that, the release does (p10cr).
///
/// # Errors
/// `TEE_ERROR_ITEM_NOT_FOUND` if the release has no such profile, `TEE_ERROR_ACCESS_CONFLICT` if
/// the label is of another one, `TEE_ERROR_STORAGE_NO_SPACE` if there are too many labels,
/// `TEE_ERROR_BUSY` if too many keys were made in too short a time.
pub fn begin(name: &Name, profile: Option<&str>, budget: &mut Budget) -> Result<(Vec<u8>, String)> {
    let orders = Orders::load()?;
    let installed = Record::find(name, Slot::Installed)?;
    let pending = Record::find(name, Slot::Pending)?;
    let has = installed.as_ref().or(pending.as_ref());
    let has = has.map(|record| record.profile.as_str());
    let order = orders.certificate(profile.or(has))?;
    if has.is_some_and(|has| has != order.profile) {
        return Err(Error(TEE_ERROR_ACCESS_CONFLICT));
    }
    let is_new = installed.is_none() && pending.is_none();
    let done = |pending: &Record| {
        let installed = installed.as_ref();
        installed.is_some_and(|installed| installed.transaction_id == pending.transaction_id)
    };
    let pending = match pending {
        // Installed, and power was lost before the request went: asking again would bring the
        // certificate that is there already.
        Some(pending) if done(&pending) => {
            Record::delete(name, Slot::Pending)?;
            None
        }
        other => other,
    };
    let holder = Holder::of(name)?;
    let old = in_place_of(pending.as_ref(), installed.as_ref())?;
    if let Some(pending) = pending
        && is_current(&pending, order, &orders, holder.as_ref())?
    {
        return Ok((pending.request, order.cmp_path.clone()));
    }
    if is_new {
        name.check_room()?;
    }
    budget.new_key()?;
    let alg = keys::signature_alg(order.key_kind)?;
    let key = keys::generate(alg)?;
    let mut record = Record {
        profile: order.profile.clone(),
        key_usage: order.key_usage,
        cose_alg: order.key_kind.cose_alg(),
        ..Record::default()
    };
    // Whether the certificate has ended is for the CA to say, and now: by the REE's clock, or by what a CA
    // whose clock was ahead once signed, fresh evidence would be wanted for nothing.
    match holder {
        Some(holder) => ask_as_holder(&mut record, &holder, &orders, order, &key)?,
        None => ask_as_release(&mut record, old, &orders, order, &key)?,
    }
    // The one signature of a key that only agrees proves possession, as a request must.
    let key = keys::confine(alg, key, order.key_usage)?;
    // 1. Key and request are durable before anyone sees the request.
    record.store(name, Slot::Pending, &key)?;
    // 2. Other sessions may have counted as many labels at the same moment. Who finds too many now
    //    that its own is among them takes it back; a crash before that leaves one more than may be.
    if is_new && let Err(error) = name.check_room() {
        Record::delete(name, Slot::Pending)?;
        return Err(error);
    }
    Ok((record.request, order.cmp_path.clone()))
}

/// The certificate in whose place another request of the label is, a CertId in DER; empty if there is none.
///
/// The one that was accepted last and not installed yet comes first, since the CA may have heard of that; then
/// the one that the last request was in place of.
fn in_place_of(pending: Option<&Record>, installed: Option<&Record>) -> Result<Vec<u8>> {
    let leaf = |record: Option<&Record>| record.and_then(|record| record.chain.first().cloned());
    let leaf = match (leaf(pending), pending) {
        (Some(accepted), _) => Some(accepted),
        (None, Some(pending)) if !pending.in_place_of.is_empty() => {
            return Ok(pending.in_place_of.clone());
        }
        (None, _) => leaf(installed),
    };
    leaf.map_or(Ok(Vec::new()), |leaf| {
        CertView::from_der(&leaf)
            .and_then(|view| cert_id(&view))
            .map_err(bug)
    })
}

/// Makes the record's request a p10cr, protected with the device's `CsrAuthKey`. It names the certificate
/// in whose place it is: by the time that the CA grants it, that one may serve again, and two would.
fn ask_as_release(
    record: &mut Record,
    old: Vec<u8>,
    orders: &Orders,
    order: &CertificateOrder,
    key: &Object,
) -> Result<()> {
    let alg = alg_of(record)?;
    let csr = CsrBuilder {
        subject: order.subject(&orders.identity).map_err(bug)?,
        spki_der: keys::spki_der(alg, key)?,
        san: order.san(&orders.identity).map_err(bug)?,
        extensions: Vec::new(),
    };
    let named = Some(old.as_slice()).filter(|old| !old.is_empty());
    let tbs = csr.to_tbs_in_place_of(named).map_err(bug)?;
    record.in_place_of = old;
    let csr = assemble_csr(&tbs, alg, &keys::sign(alg, key, &tbs)?).map_err(bug)?;
    record.sender_kid = orders.sender_kid()?;
    let body = RawBody::p10cr(&csr).map_err(bug)?;
    ask(record, &Sender::Release(orders), orders, order, &body)
}

/// Makes the record's request a kur, signed by the key that serves. Spec: RFC 9483 section 4.1.3.
fn ask_as_holder(
    record: &mut Record,
    holder: &Holder,
    orders: &Orders,
    order: &CertificateOrder,
    key: &Object,
) -> Result<()> {
    let alg = alg_of(record)?;
    let spki_der = keys::spki_der(alg, key)?;
    let update = KeyUpdate {
        subject: order.subject(&orders.identity).map_err(bug)?,
        san: order.san(&orders.identity).map_err(bug)?,
        reg_token: &renewal_token(orders, &spki_der, &holder.leaf)?,
        spki_der: &spki_der,
        old: &CertView::from_der(&holder.leaf).map_err(bug)?,
    };
    let request = update.to_request().map_err(bug)?;
    let raw = keys::sign(alg, key, &request)?;
    let bits = alg.signature_to_bits(&raw).map_err(bug)?;
    record.sender_kid.clone_from(&holder.key_id);
    let body = RawBody::kur(&request, alg, &bits).map_err(bug)?;
    ask(record, &Sender::Holder(holder), orders, order, &body)
}

/// The release's word that the new key is in the TEE: the key that serves signs what its
/// application asks for, so its signature alone does not say that.
fn renewal_token(orders: &Orders, spki_der: &[u8], leaf: &[u8]) -> Result<String> {
    let sha256 = |bytes: &[u8]| -> Result<[u8; 32]> {
        let digest = crypto::digest(TEE_ALG_SHA256, bytes)?;
        digest.try_into().map_err(bug)
    };
    let input = token_input(&sha256(spki_der)?, &sha256(leaf)?);
    let mac = orders.mac(&input)?;
    let kid = SenderKid::parse(&orders.sender_kid()?).map_err(bug)?;
    let mac = mac.try_into().map_err(bug)?;
    Ok(RenewalToken { kid, mac }.to_text())
}

/// Puts a request of a new transaction into the record.
fn ask(
    record: &mut Record,
    sender: &Sender<'_>,
    orders: &Orders,
    order: &CertificateOrder,
    body: &RawBody,
) -> Result<()> {
    record.transaction_id = crypto::random::<NONCE_BYTES>()?.to_vec();
    record.nonce = crypto::random::<NONCE_BYTES>()?.to_vec();
    let mut head = sender.header(record)?;
    if order.confirm_mode == ConfirmMode::Implicit {
        head = head.with_implicit_confirm().map_err(bug)?;
    }
    if orders.procedure.certificates.len() > 1 {
        // The path is not protected, the header is. Spec: RFC 9483 section 4.1.
        head = head.with_cert_profile(&order.profile).map_err(bug)?;
    }
    record.request = sender.protect(&head, body)?;
    Ok(())
}

/// A message of the CA whose signature, transaction and nonce are right.
struct Authentic<'a> {
    message: MessageView<'a>,
    now_secs: u64,
}

/// Certificates that a message carries, and those kept from an earlier one.
fn pool<'a>(message: &MessageView<'a>, kept: &'a [Vec<u8>]) -> Vec<CertView<'a>> {
    let kept = kept.iter().map(Vec::as_slice);
    let all = message.extra_certs.iter().copied().chain(kept);
    all.filter_map(|der| CertView::from_der(der).ok()).collect()
}

fn anchors(orders: &Orders) -> Result<Vec<CertView<'_>>> {
    let anchors = &orders.procedure.trust_anchors;
    anchors
        .iter()
        .map(|der| CertView::from_der(der).map_err(bug))
        .collect()
}

/// Reads a message of the CA that answers our message with that `nonce`.
fn authenticate<'a>(
    bytes: &'a [u8],
    orders: &Orders,
    record: &Record,
    nonce: &[u8],
) -> Result<Authentic<'a>> {
    let untrusted = Error(TEE_ERROR_SECURITY);
    let message = MessageView::from_der(bytes)?;
    if message.transaction_id != record.transaction_id || message.recip_nonce != nonce {
        system::log("message refused: not an answer to ours");
        return Err(untrusted);
    }
    let alg = message.signature_alg.ok_or(untrusted)?;
    let now_secs = message.time_secs.ok_or(untrusted)?;
    if message.sender_nonce.len() < NONCE_BYTES {
        return Err(untrusted);
    }
    let part = message.protected_part()?;
    let anchors = anchors(orders)?;
    let candidates = pool(&message, &record.chain);
    let signed = candidates
        .iter()
        .chain(&anchors)
        .take(SIGNERS_MAX)
        .any(|signer| {
            message
                .sender_der
                .is_none_or(|sender| sender == signer.subject_der)
                && keys::verify(signer.spki_der, alg, &part, message.protection).is_ok()
                && chain::check_signer(signer, &candidates, &anchors, now_secs).is_ok()
        });
    if !signed {
        system::log("message refused: no signature of our CA");
        return Err(untrusted);
    }
    clock::learn(now_secs);
    Ok(Authentic { message, now_secs })
}

/// certHash of a certificate, and whether the message must name the hash.
///
/// Spec: RFC 9810 section 5.3.18: the hash of the certificate's signature algorithm; Ed25519 names
/// none, so SHA-512 is said.
fn cert_hash(view: &CertView<'_>) -> Result<(Vec<u8>, Option<HashAlg>)> {
    let (gp, named) = match view.signature_alg() {
        Some(SignatureAlg::EcdsaSha256) => (TEE_ALG_SHA256, None),
        Some(SignatureAlg::EcdsaSha384) => (TEE_ALG_SHA384, None),
        Some(SignatureAlg::Ed25519) => (TEE_ALG_SHA512, Some(HashAlg::Sha512)),
        _ => return Err(Error(TEE_ERROR_NOT_SUPPORTED)),
    };
    Ok((crypto::digest(gp, view.der)?, named))
}

/// Steps 13 and 14: the CA's response. Returns certConf, or nothing if none is wanted.
///
/// # Errors
/// `TEE_ERROR_ACCESS_DENIED` if the CA authentically refuses; `TEE_ERROR_BAD_FORMAT` and
/// `TEE_ERROR_SECURITY` for anything that is not the CA's answer with our certificate. The state
/// is the same as before then, but where the same request would get the same answer for ever: a
/// certificate of our key that is not as ordered, or has expired, or that the CA has revoked, ends it.
pub fn finish(name: &Name, cp: &[u8]) -> Result<Vec<u8>> {
    let orders = Orders::load()?;
    let response_digest = crypto::digest(TEE_ALG_SHA256, cp)?;
    let (key, mut record) = match Record::load(name, Slot::Pending) {
        Ok(found) => found,
        Err(Error(TEE_ERROR_ITEM_NOT_FOUND)) => {
            // Installed by this very response, with implicit confirmation: the answer was lost.
            let (_, installed) = Record::load(name, Slot::Installed)?;
            return if installed.response_digest == response_digest && installed.confirm.is_empty() {
                Ok(Vec::new())
            } else {
                Err(Error(TEE_ERROR_ITEM_NOT_FOUND))
            };
        }
        Err(error) => return Err(error),
    };
    if !record.confirm.is_empty() && record.response_digest == response_digest {
        return Ok(record.confirm);
    }
    // The request may have been sent again, because an answer was lost or power was: the CA answers
    // anew, with the same certificate, and waits for the confirmation of that answer.
    let request = record.request.clone();
    let request = MessageView::from_der(&request)?;
    let asked = Asked::of(&request)?;
    let answer = authenticate(cp, &orders, &record, request.sender_nonce)?;
    let message = &answer.message;
    let leaf_der = match message.kind {
        kind if kind == asked.answer() => match message.certificate(asked.cert_req_id())? {
            Answer::Granted(certificate) => certificate,
            refusal => {
                match (refusal, asked) {
                    (Answer::Refused | Answer::Revoked, Asked::ByHolder) => {
                        refused(name, &key, record, &orders)?;
                    }
                    (Answer::Revoked, Asked::ByRelease) => {
                        Record::delete(name, Slot::Pending)?;
                    }
                    _ => {}
                }
                return Err(Error(TEE_ERROR_ACCESS_DENIED));
            }
        },
        message::ERROR => return Err(Error(TEE_ERROR_ACCESS_DENIED)),
        _ => return Err(Error(TEE_ERROR_SECURITY)),
    };
    if record
        .chain
        .first()
        .is_some_and(|accepted| accepted.as_slice() != leaf_der)
    {
        // One certificate was accepted for this request; there is no second one.
        return Err(Error(TEE_ERROR_SECURITY));
    }
    let leaf = CertView::from_der(leaf_der).map_err(malformed)?;
    let order = orders.certificate(Some(&record.profile))?;
    if order.key_usage != record.key_usage {
        // The key was made for what an earlier release ordered.
        return Err(Error(TEE_ERROR_BAD_STATE));
    }
    let alg = alg_of(&record)?;
    let own_spki = keys::spki_der(alg, &key)?;
    let now_secs = answer.now_secs;
    let checked = cert::check(&leaf, &orders.identity, order, &own_spki, now_secs);
    if checked == Err(Error(TEE_ERROR_SECURITY))
        && leaf.spki_der == own_spki
        && (record.confirm.is_empty() || leaf.not_after_secs <= now_secs)
    {
        system::log("the request is given up");
        Record::delete(name, Slot::Pending)?;
    }
    checked?;
    // What lies beside the message is not signed: who carries it may leave issuers out.
    let issuers = cert::issuers(&leaf, &pool(message, &[]), &anchors(&orders)?, now_secs)?;
    record.chain = Vec::from([leaf_der.to_vec()]);
    record
        .chain
        .extend(issuers.iter().map(|ca| ca.der.to_vec()));
    record.response_digest = response_digest;

    if request.implicit_confirm && message.implicit_confirm {
        install(name, &key, &record)?;
        return Ok(Vec::new());
    }
    record.nonce = crypto::random::<NONCE_BYTES>()?.to_vec();
    let (hash, named) = cert_hash(&leaf)?;
    let holder = Holder::of(name)?;
    let sender = match (asked, &holder) {
        (Asked::ByRelease, _) => Sender::Release(&orders),
        (Asked::ByHolder, Some(holder)) if holder.key_id == record.sender_kid => {
            Sender::Holder(holder)
        }
        // The certificate that asked was deleted: the next request is another one.
        (Asked::ByHolder, _) => return Err(Error(TEE_ERROR_BAD_STATE)),
    };
    let mut head = sender
        .header(&record)?
        .with_recip_nonce(message.sender_nonce)
        .map_err(bug)?;
    if named.is_some() {
        head.pvno = 3;
    }
    let body = RawBody::cert_conf(asked.cert_req_id(), &hash, named).map_err(bug)?;
    record.confirm = sender.protect(&head, &body)?;
    // 3. The accepted certificate is durable before it is confirmed.
    record.store(name, Slot::Pending, &key)?;
    Ok(record.confirm)
}

/// After the CA's refusal of a kur, which it gives to nobody but who signed it with the key that
/// serves: the release asks, for the same new key. The CA may have ended the certificate, or know
/// that it has ended, and still give another one to this TA.
///
/// In one write: a crash leaves the old request, which is refused again.
fn refused(name: &Name, key: &Object, record: Record, orders: &Orders) -> Result<()> {
    let order = orders.certificate(Some(&record.profile))?;
    if !keys::may_sign(record.key_usage) {
        // Made for agreement alone by a newer order: it cannot sign again, so another one will.
        return Record::delete(name, Slot::Pending).map(drop);
    }
    let installed = Record::find(name, Slot::Installed)?;
    let old = in_place_of(Some(&record), installed.as_ref())?;
    let mut anew = Record {
        profile: record.profile,
        key_usage: record.key_usage,
        cose_alg: record.cose_alg,
        ..Record::default()
    };
    ask_as_release(&mut anew, old, orders, order, key)?;
    anew.store(name, Slot::Pending, key)
}

/// The owner gives up what is under way; `false` if nothing is.
///
/// A kur of a certificate that has ended, by what the CA signed, makes room for what the release asks
/// for: a CA that knows nothing of the certificate any more answers with errors alone, which are no
/// refusal.
///
/// # Errors
/// Storage not available.
pub fn give_up(name: &Name) -> Result<bool> {
    if let Ok((key, record)) = Record::load(name, Slot::Pending)
        && let Some(holder) = Holder::of(name)?
        && holder.key_id == record.sender_kid
        && holder.ends <= clock::signed_secs()
        && let Ok(orders) = Orders::load()
        && refused(name, &key, record, &orders).is_ok()
    {
        return Ok(true);
    }
    Record::delete(name, Slot::Pending)
}

/// The CA's pkiConf: installs the certificate.
///
/// # Errors
/// As [`finish`].
pub fn confirm(name: &Name, pki_conf: &[u8]) -> Result<()> {
    let orders = Orders::load()?;
    let (key, record) = match Record::load(name, Slot::Pending) {
        Ok(found) => found,
        Err(Error(TEE_ERROR_ITEM_NOT_FOUND)) => {
            // Installed already, the answer was lost.
            let (_, installed) = Record::load(name, Slot::Installed)?;
            authenticate(pki_conf, &orders, &installed, &installed.nonce)?;
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if record.confirm.is_empty() {
        return Err(Error(TEE_ERROR_BAD_STATE));
    }
    let answer = authenticate(pki_conf, &orders, &record, &record.nonce)?;
    match answer.message.kind {
        message::PKI_CONF => {}
        message::ERROR => return Err(Error(TEE_ERROR_ACCESS_DENIED)),
        _ => return Err(Error(TEE_ERROR_SECURITY)),
    }
    install(name, &key, &record)
}

/// Proves that key and certificate fit, and puts them into place in one write.
fn install(name: &Name, key: &Object, record: &Record) -> Result<()> {
    // 4. Proved before the old certificate goes: what fails here leaves it as it was.
    let leaf = record.chain.first();
    let leaf = leaf.ok_or(Error(TEE_ERROR_CORRUPT_OBJECT))?;
    let leaf = CertView::from_der(leaf).map_err(|_| Error(TEE_ERROR_CORRUPT_OBJECT))?;
    keys::prove(alg_of(record)?, key, record.key_usage, leaf.spki_der)?;
    // 5. One atomic write replaces the old certificate; a crash before it leaves the old one and
    //    the request, a crash after it leaves both records, and confirming again, or beginning
    //    anew, mends that.
    record.store(name, Slot::Installed, key)?;
    // 6. The request has done its work.
    Record::delete(name, Slot::Pending).map(drop)
}

/// Most certificates tried as the signer of a message.
const SIGNERS_MAX: usize = 8;
