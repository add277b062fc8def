//! What each fuzz target does, one function for each decoder of peer data.
//!
//! A target fails on a panic, on running out of memory, and where a decoded message does not survive
//! being encoded and decoded again.

use tegata_wire as wire;

/// Decodes; if that worked, encodes and decodes again and compares.
macro_rules! round_trip {
    ($name:ident, $type:ty, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(data: &[u8]) {
            let Ok(first) = <$type>::decode(data) else {
                return;
            };
            let Ok(bytes) = first.encode() else { return };
            let again = <$type>::decode(&bytes).expect("own encoding decodes");
            let bytes_again = again.encode().expect("and encodes");
            assert!(bytes[..] == bytes_again[..], "encoding is not stable");
        }
    };
}

/// Decodes only.
macro_rules! decode_only {
    ($name:ident, $decode:expr, $doc:literal) => {
        #[doc = $doc]
        pub fn $name(data: &[u8]) {
            let decode = $decode;
            let _ = std::hint::black_box(decode(data));
        }
    };
}

decode_only!(cbor, |d| wire::cbor::decode(d, 16), "CBOR of any kind.");
decode_only!(
    cose_sign1,
    wire::cose::UnverifiedSign1::decode,
    "COSE_Sign1."
);
round_trip!(cose_key, wire::cose::CoseKey, "COSE_Key.");
round_trip!(
    cose_encrypt,
    wire::cose::EncryptionInfo,
    "SUIT encryption-info."
);
decode_only!(
    suit_envelope,
    wire::suit::UnverifiedEnvelope::decode,
    "SUIT envelope."
);
round_trip!(suit_manifest, wire::suit::Manifest, "SUIT manifest.");
round_trip!(
    suit_sequence,
    wire::suit::Sequence,
    "SUIT command sequence."
);
round_trip!(suit_report, wire::suit::Report, "SUIT Report.");
round_trip!(eat, wire::rats::eat::EatClaims, "EAT claims.");
round_trip!(ear, wire::rats::ear::Ear, "EAR claims.");
round_trip!(teep, wire::teep::Message, "TEEP message.");
decode_only!(
    cmp,
    wire::cmp::UnverifiedPkiMessage::from_der,
    "CMP PKIMessage, header."
);
decode_only!(
    est_body,
    |d| (
        wire::est::from_body(d),
        wire::est::BasicCredentials::from_header(d).is_some()
    ),
    "Bodies and credentials of EST."
);
decode_only!(csr, wire::x509::AllegedCsr::from_der, "PKCS#10.");
decode_only!(
    certificate,
    wire::x509::CertView::from_der,
    "X.509 certificate."
);
round_trip!(
    procedure,
    wire::enrolment::Procedure,
    "Enrolment procedure."
);
round_trip!(
    personalization,
    wire::enrolment::PersonalizationData,
    "Personalization data."
);
round_trip!(
    factory_manifest,
    wire::enrolment::FactoryManifest,
    "Factory manifest."
);
round_trip!(
    release_package,
    wire::enrolment::ReleasePackage,
    "Release package."
);
round_trip!(
    delivery_request,
    wire::enrolment::DeliveryRequest,
    "Delivery request."
);
round_trip!(
    release_notice,
    wire::enrolment::ReleaseNotice,
    "Release notice."
);
round_trip!(delivery, wire::enrolment::Delivery, "Delivery.");
round_trip!(device_file, wire::device::DeviceFile, "Device file.");
round_trip!(
    device_report,
    wire::device::DeviceReport,
    "What a device reports to its factory."
);
round_trip!(
    device_record,
    wire::device::DeviceRecord,
    "The factory's word for a device."
);
decode_only!(
    rpc_call,
    |d| wire::rpc::content::<wire::rpc::Call>(d),
    "A call of a local client to the TEE."
);
decode_only!(
    rpc_answer,
    |d| wire::rpc::content::<wire::rpc::Answer>(d),
    "An answer of the TEE to a local client."
);

decode_only!(
    wasm_module,
    tegata_tee::wasm::TaModule::new,
    "A TA module: decoded and validated."
);

/// A CMP message with its body, and what a CA reads of the requests in it.
pub fn cmp_body(data: &[u8]) {
    use wire::cmp::PkiBody as B;
    let Ok(message) = wire::cmp::UnverifiedPkiMessage::from_der(data) else {
        return;
    };
    match std::hint::black_box(message.body().decode()) {
        Ok(B::Ir(list) | B::Cr(list) | B::Kur(list)) => {
            for request in list.iter().flat_map(wire::cmp::CertReqMsg::request) {
                let _ = std::hint::black_box((request.old_cert_id(), request.reg_token()));
            }
        }
        Ok(B::Genm(list)) => {
            for value in list.iter().filter_map(|item| item.info_value.as_ref()) {
                let _ = std::hint::black_box(wire::cmp::CrlStatus::read_list(value));
            }
        }
        _ => {}
    }
}

/// The value of a crlStatusList, and a renewal token: what is behind a valid message alone above.
pub fn cmp_values(data: &[u8]) {
    if let Ok(value) = wire::x509::RawDer::from_bytes(data) {
        let _ = std::hint::black_box(wire::cmp::CrlStatus::read_list(&value));
    }
    if let Some(token) = std::str::from_utf8(data)
        .ok()
        .and_then(|text| wire::enrolment::RenewalToken::parse(text).ok())
    {
        assert_eq!(token.to_text().as_bytes(), data);
    }
}
round_trip!(
    statement,
    wire::rats::statement::Statement,
    "Signed reading."
);

mod gnss;

/// NMEA as it comes, and each line again with the checksum of what it has become; then gpsd's JSON.
pub fn receiver(data: &[u8]) {
    let (mut lines, mut fixes) = (gnss::nmea::Lines::default(), gnss::nmea::Fixes::default());
    lines.feed(data, |line| {
        let plausible = fixes.line(line).is_none_or(|fix| fix.is_plausible());
        assert!(plausible, "a fix is of this planet");
        let body = line.strip_prefix(b"$").unwrap_or(line);
        let body = body.split(|byte| *byte == b'*').next().unwrap_or(body);
        let sum = body.iter().fold(0u8, |sum, byte| sum ^ byte);
        let right = [b"$", body, format!("*{sum:02X}").as_bytes()].concat();
        assert!(fixes.line(&right).is_none_or(|fix| fix.is_plausible()));
    });
    gnss::gpsd::Reports::default().feed(data, |fix| assert!(fix.is_plausible()));
}

/// What anybody may ask the OCSP responder: what is named is named back byte for byte.
pub fn ocsp_request(data: &[u8]) {
    use wire::ocsp::{CertStatus, OcspRequest, ResponseBuilder, SingleStatus};
    let Ok(request) = OcspRequest::from_der(data) else {
        return;
    };
    let statuses: Vec<_> = request
        .certificates
        .iter()
        .map(|cert| SingleStatus {
            cert,
            status: CertStatus::Unknown,
        })
        .collect();
    let tbs = ResponseBuilder {
        responder_key_hash: &[0; 20],
        this_update_secs: 1_795_000_000,
        next_update_secs: 1_795_003_600,
        statuses: &statuses,
        nonce: request.nonce.as_deref(),
    }
    .to_tbs()
    .expect("what was read can be answered");
    for cert in &request.certificates {
        let id = cert.der.as_bytes();
        assert!(tbs.windows(id.len()).any(|part| part == id));
    }
}

round_trip!(psa_token, wire::rats::psa::PsaClaims, "PSA claims.");
round_trip!(cmw, wire::rats::cmw::CmwRecord, "CMW record.");

/// The attestation bundle of a request, and back.
pub fn attestation(data: &[u8]) {
    use wire::x509::AttestationBundle;
    let Ok(first) = AttestationBundle::from_der(data) else {
        return;
    };
    for statement in &first.statements {
        let _ = std::hint::black_box(statement.cmw());
    }
    let bytes = first.to_der().expect("what was read can be written");
    let again = AttestationBundle::from_der(&bytes).expect("own encoding decodes");
    assert!(first == again, "another bundle");
}
