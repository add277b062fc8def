//! What crossed the wire, in words: each exchange is decoded as anyone on the network could.
//!
//! Only what is in the clear can be told here; that is the point. Nothing is verified.

use tegata_wire::cmp::{PkiBody, UnverifiedPkiMessage};
use tegata_wire::cose::UnverifiedSign1;
use tegata_wire::suit::UnverifiedEnvelope;
use tegata_wire::teep::Message;
use tegata_wire::x509::AllegedCsr;

use super::relay::Exchange;
use crate::certificate::san_text;
use crate::cli::show;
use crate::story::{Act, Who, size};

/// The acts of several exchanges in the order in which they happened: a call that the TAM makes
/// before it answers stands between what it got and what it answers.
#[must_use]
pub fn in_order(exchanges: &[Exchange]) -> Vec<Act> {
    let mut timed = Vec::new();
    for exchange in exchanges {
        let ended = exchange.started + exchange.took;
        for act in acts(exchange) {
            // What goes has no time of its own yet; what comes back has, or belongs to who answers.
            let answer = act.took_us.is_some() || act.step == Some(12);
            timed.push((if answer { ended } else { exchange.started }, act));
        }
    }
    timed.sort_by_key(|(at, _)| *at);
    timed.into_iter().map(|(_, act)| act).collect()
}

/// The acts of one exchange: what went, and what came back.
#[must_use]
fn acts(exchange: &Exchange) -> Vec<Act> {
    let sent = exchange.request.len();
    let answered = exchange.answer.len();
    let status = exchange.status;
    match exchange.path.as_str() {
        "/tam" => teep(exchange),
        path if path.starts_with("/.well-known/cmp") => cmp(exchange),
        "/ca/v1/delivery" => vec![
            Act::by(Who::Tam, "asks for this device's keys")
                .step(3)
                .sent(Who::Ca, sent)
                .detail("signed by the TAM; names release and ueid, nothing else"),
            Act::by(
                Who::Ca,
                "encrypts the TA's key and personal data to this device",
            )
            .step(3)
            .sent(Who::Tam, answered)
            .took(exchange.took)
            .detail(
                "ECDH-ES+A128KW to the delivery key from the factory manifest: opaque to the TAM",
            ),
        ],
        "/verifier/v1/appraise" => vec![
            Act::by(Who::Tam, "passes the evidence on")
                .step(3)
                .sent(Who::Verifier, sent),
            Act::by(Who::Verifier, "answers with an attestation result (EAR)")
                .step(3)
                .sent(Who::Tam, answered)
                .took(exchange.took)
                .detail("checked against the factory's endorsement and the reference values"),
        ],
        "/tam/v1/releases" => vec![
            Act::by(
                Who::Ca,
                format!("registers the release with the TAM (HTTP {status})"),
            )
            .step(2)
            .sent(Who::Tam, sent)
            .took(exchange.took),
        ],
        "/verifier/v1/reference-values" => vec![
            Act::by(
                Who::Ca,
                format!("tells the Verifier its reference value (HTTP {status})"),
            )
            .step(2)
            .sent(Who::Verifier, sent)
            .took(exchange.took),
        ],
        "/ca/v1/appraisal" => vec![
            Act::by(Who::Tam, "tells the CA what the Verifier found")
                .step(3)
                .sent(Who::Ca, sent)
                .took(exchange.took)
                .detail("so that certificates can be revoked by the runtime of their devices"),
        ],
        path if path.starts_with("/tam/tc/") => vec![
            Act::by(Who::Tam, "hands out the encrypted TA")
                .step(3)
                .sent(Who::Agent, answered)
                .took(exchange.took)
                .detail("one ciphertext for all devices: it could come from any CDN"),
        ],
        path => {
            vec![Act::by(Who::Demo, format!("{path}: HTTP {status}")).sent(Who::Demo, answered)]
        }
    }
}

/// The payload of a COSE_Sign1, unverified.
fn sign1_payload(bytes: &[u8]) -> Option<Vec<u8>> {
    UnverifiedSign1::decode(bytes)
        .ok()?
        .into_unverified_payload()
}

/// A TEEP message as seen on the wire, unverified.
#[must_use]
pub fn teep_message(bytes: &[u8]) -> Option<Message> {
    Message::decode(&sign1_payload(bytes)?).ok()
}

fn teep(exchange: &Exchange) -> Vec<Act> {
    let mut acts = Vec::new();
    let (sent, answered) = (exchange.request.len(), exchange.answer.len());
    let request = if exchange.request.is_empty() {
        Act::by(Who::Agent, "knocks: POST with an empty body").step(3)
    } else {
        match teep_message(&exchange.request) {
            Some(Message::QueryResponse(response)) => {
                let evidence = response.attestation.as_ref().map_or(0, |a| a.payload.len());
                let wanted = response.requested_tc_list.as_ref().map_or(0, Vec::len);
                let have = response.tc_list.as_ref().map_or(0, Vec::len);
                Act::by(Who::Tee, "QueryResponse, signed by the device")
                    .step(3)
                    .detail(format!(
                        "EAT evidence {}; {have} TAs installed, {wanted} requested",
                        size(u64::try_from(evidence).unwrap_or(0))
                    ))
            }
            Some(Message::Success(success)) => {
                let reports = success.suit_reports.as_ref().map_or(0, Vec::len);
                let reports = match reports {
                    1 => "1 SUIT report".to_owned(),
                    n => format!("{n} SUIT reports"),
                };
                Act::by(Who::Tee, format!("Success with {reports}: installed")).step(4)
            }
            Some(Message::Error(error)) => {
                let text = error.err_msg.unwrap_or_default();
                Act::by(
                    Who::Tee,
                    format!(
                        "Error {}: {}",
                        error.err_code.number(),
                        show::visible(&text)
                    ),
                )
                .step(4)
            }
            _ => Act::by(Who::Agent, "posts bytes that are no TEEP message"),
        }
    };
    acts.push(request.sent(Who::Tam, sent));
    let answer = match teep_message(&exchange.answer) {
        Some(Message::QueryRequest(request)) => {
            let challenge = request.challenge.as_ref().map_or(0, |c| c.as_bytes().len());
            Act::by(Who::Tam, "QueryRequest, signed by the TAM")
                .step(3)
                .detail(format!("challenge of {challenge} bytes, used once"))
        }
        Some(Message::Update(update)) => {
            let manifests = update.manifest_list.unwrap_or_default();
            let mut act = Act::by(Who::Tam, "Update for this device alone").step(3);
            for manifest in &manifests {
                if let Some(line) = manifest_line(manifest) {
                    act = act.detail(line);
                }
            }
            act
        }
        _ if exchange.status == 204 => Act::by(Who::Tam, "204: nothing more to do").step(4),
        _ => Act::by(Who::Tam, format!("HTTP {}", exchange.status)),
    };
    acts.push(answer.sent(Who::Agent, answered).took(exchange.took));
    acts
}

/// What a SUIT envelope carries, by name and size.
fn manifest_line(bytes: &[u8]) -> Option<String> {
    let envelope = UnverifiedEnvelope::decode(bytes).ok()?;
    let manifest = envelope.dangerous_unverified_manifest().ok()?;
    Some(format!(
        "SUIT manifest #{} of {}: TA and personal data as ciphertext, bound to the ueid",
        manifest.sequence_number,
        size(u64::try_from(bytes.len()).ok()?)
    ))
}

fn cmp(exchange: &Exchange) -> Vec<Act> {
    let (sent, answered) = (exchange.request.len(), exchange.answer.len());
    let mut acts = Vec::new();
    match cmp_body(&exchange.request) {
        Some(PkiBody::P10cr(_)) => {
            acts.push(
                Act::by(Who::Tee, "hands over the protected request: CMP p10cr")
                    .step(10)
                    .sent(Who::Agent, sent),
            );
            acts.push(
                Act::by(
                    Who::Agent,
                    "carries it, unable to read a key or change a bit",
                )
                .step(11)
                .sent(Who::Ca, sent),
            );
        }
        Some(PkiBody::CertConf(_)) => acts.push(
            Act::by(Who::Agent, "carries certConf: the TEE has accepted it")
                .step(14)
                .sent(Who::Ca, sent),
        ),
        _ => acts
            .push(Act::by(Who::Agent, "carries bytes that are no CMP request").sent(Who::Ca, sent)),
    }
    let answer = cmp_answer(&exchange.answer)
        .sent(Who::Agent, answered)
        .took(exchange.took);
    if answer.step == Some(13) {
        acts.push(
            Act::by(
                Who::Ca,
                "finds the key by senderKID, verifies the MAC, compares identity",
            )
            .step(12),
        );
    }
    acts.push(answer);
    acts
}

fn cmp_body(bytes: &[u8]) -> Option<PkiBody> {
    UnverifiedPkiMessage::from_der(bytes)
        .ok()?
        .body()
        .decode()
        .ok()
}

/// What a certification request on the wire says, unverified.
#[derive(Debug)]
pub struct RequestFacts {
    /// Length of the PKCS#10 request, bytes.
    pub csr_len_bytes: usize,
    /// Subject.
    pub subject: String,
    /// Alternative names.
    pub names: String,
    /// senderKID: release and ueid.
    pub sender_kid: String,
}

/// The facts of the first certification request among exchanges.
#[must_use]
pub fn request_facts(exchanges: &[Exchange]) -> Option<RequestFacts> {
    exchanges
        .iter()
        .find_map(|exchange| facts(&exchange.request))
}

fn facts(bytes: &[u8]) -> Option<RequestFacts> {
    let message = UnverifiedPkiMessage::from_der(bytes).ok()?;
    let der = message.body().p10cr_csr().ok()?;
    let csr = AllegedCsr::from_der(der).ok()?;
    let names: Vec<String> = csr.san().ok()?.iter().map(san_text).collect();
    let kid = message.header().sender_kid.as_ref()?;
    let kid = hex::encode(kid.as_bytes());
    let sender_kid = match (kid.get(..8), kid.get(32..)) {
        (Some(release), Some(ueid)) => format!("{release}… ‖ {ueid}"),
        _ => kid,
    };
    Some(RequestFacts {
        csr_len_bytes: der.len(),
        subject: show::visible(&csr.subject.to_display()),
        names: show::visible(&names.join("; ")),
        sender_kid,
    })
}

fn cmp_answer(bytes: &[u8]) -> Act {
    match cmp_body(bytes) {
        Some(PkiBody::Cp(response)) => {
            let granted = response.response.iter().any(|r| r.certificate().is_some());
            if granted {
                Act::by(Who::Ca, "signs and records the certificate, answers: cp").step(13)
            } else {
                Act::by(
                    Who::Ca,
                    format!("refuses: {}", failure(bytes).unwrap_or_default()),
                )
                .step(13)
            }
        }
        Some(PkiBody::PkiConf) => Act::by(Who::Ca, "pkiConf: both sides agree").step(14),
        Some(PkiBody::Error(_)) => Act::by(
            Who::Ca,
            format!("refuses: {}", failure(bytes).unwrap_or_default()),
        )
        .step(12),
        _ => Act::by(Who::Ca, "answers something that is not CMP"),
    }
}

/// The failure names and text of a CMP error or rejection.
#[must_use]
pub fn failure(bytes: &[u8]) -> Option<String> {
    let status = match cmp_body(bytes)? {
        PkiBody::Error(error) => error.status,
        PkiBody::Cp(response) => response.response.iter().next()?.status.clone(),
        _ => return None,
    };
    let names: Vec<String> = status
        .fail_info
        .map(|info| info.names().map(camel).collect())
        .unwrap_or_default();
    let text = status.text().map(show::visible).unwrap_or_default();
    Some(match (names.join(", "), text) {
        (names, text) if text.is_empty() => names,
        (names, text) => format!("{names} ({text})"),
    })
}

/// `BAD_MESSAGE_CHECK` as the standard writes it: `badMessageCheck`.
fn camel(name: &str) -> String {
    let mut out = String::new();
    for (index, word) in name.split('_').enumerate() {
        let lower = word.to_ascii_lowercase();
        let mut letters = lower.chars();
        match letters.next() {
            Some(first) if index > 0 => {
                out.push(first.to_ascii_uppercase());
                out.push_str(letters.as_str());
            }
            _ => out.push_str(&lower),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_names_are_spelled_as_in_the_standard() {
        assert_eq!(camel("BAD_MESSAGE_CHECK"), "badMessageCheck");
        assert_eq!(camel("BAD_ALG"), "badAlg");
    }
}
