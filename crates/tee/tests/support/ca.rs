//! A CA in a few lines: a root, an issuing CA, real signatures, and every lie worth trying.

use std::cell::{Cell, RefCell};

use der::Encode;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider, Rng, Secret, Signer, csr_auth};
use tegata_wire::cmp::{
    BodyKind, MessageToProtect, P10CR_CERT_REQ_ID, PkiBody, PkiFailureInfo, PkiHeader,
    ProofOfPossession, ProtectionAlg, RawBody, UnverifiedPkiMessage, directory_name,
};
use tegata_wire::enrolment::{
    CertificateOrder, ConfirmMode, Identity, IdentityAttribute, KeyKind, Procedure,
    ProtocolProfile, RenewalToken, SanTemplate, Template, token_input,
};
use tegata_wire::ids::{ReleaseDigest, Ueid};
use tegata_wire::x509::{
    AllegedCsr, AttributeSpec, CertBuilder, CertView, DistinguishedName, ExtensionSet, NameBuilder,
    RawDer, SanEntry, SerialNumber, Validity, assemble_certificate, decode_san, oid, usage,
};

pub const RELEASE: ReleaseDigest = ReleaseDigest([0x52; 32]);
const MASTER: [u8; 32] = [0x4d; 32];
pub const NOW: u64 = 1_790_000_000;
pub const YEAR: u64 = 365 * 86_400;

/// What a liar changes in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tamper {
    ForeignRoot,
    ForeignProtection,
    NotSigned,
    OtherTransaction,
    OtherNonce,
    NoTime,
    NoSenderNonce,
    OtherRequestId,
    OtherKey,
    OtherSubject,
    OtherSan,
    NoSan,
    CaCertificate,
    OtherKeyUsage,
    OtherPurpose,
    Expired,
    NotYetValid,
    TooLong,
    UnknownCritical,
    SignedByLeaf,
    NoIssuer,
    Rejected,
    Revoked,
    Unavailable,
    ErrorMessage,
    OtherKind,
    AltersCertificate,
    /// Not in ALL: nothing is missing while there is one root.
    NoLink,
}

impl Tamper {
    pub const ALL: [Self; 27] = [
        Self::ForeignRoot,
        Self::ForeignProtection,
        Self::NotSigned,
        Self::OtherTransaction,
        Self::OtherNonce,
        Self::NoTime,
        Self::NoSenderNonce,
        Self::OtherRequestId,
        Self::OtherKey,
        Self::OtherSubject,
        Self::OtherSan,
        Self::NoSan,
        Self::CaCertificate,
        Self::OtherKeyUsage,
        Self::OtherPurpose,
        Self::Expired,
        Self::NotYetValid,
        Self::TooLong,
        Self::UnknownCritical,
        Self::SignedByLeaf,
        Self::NoIssuer,
        Self::Rejected,
        Self::Revoked,
        Self::Unavailable,
        Self::ErrorMessage,
        Self::OtherKind,
        Self::AltersCertificate,
    ];

    /// A certificate of the right key that is not as ordered: the CA's own answer, for ever.
    pub const WRONG_CERTIFICATE: [Self; 10] = [
        Self::OtherSubject,
        Self::OtherSan,
        Self::NoSan,
        Self::CaCertificate,
        Self::OtherKeyUsage,
        Self::OtherPurpose,
        Self::Expired,
        Self::NotYetValid,
        Self::TooLong,
        Self::UnknownCritical,
    ];
}

struct Counter(u64);

impl Rng for Counter {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), tegata_crypto::CryptoError> {
        for chunk in out.chunks_mut(32) {
            self.0 += 1;
            let block = RustCrypto.sha256(&self.0.to_be_bytes());
            chunk.copy_from_slice(&block[..chunk.len()]);
        }
        Ok(())
    }
}

fn name(common: &str) -> DistinguishedName {
    let spec = AttributeSpec::by_name("CN").unwrap();
    NameBuilder::new()
        .push(spec, common)
        .unwrap()
        .build()
        .unwrap()
}

fn alg_of(kind: KeyKind) -> KeyAlg {
    match kind {
        KeyKind::P256 => KeyAlg::P256,
        KeyKind::P384 => KeyAlg::P384,
        _ => KeyAlg::Ed25519,
    }
}

pub struct Ca {
    several: bool,
    kind: KeyKind,
    confirm: ConfirmMode,
    root: PrivateKey,
    root_der: Vec<u8>,
    /// Roots before it, the newest first.
    older: Vec<Older>,
    /// Who issues certificates in the place of the CA that answers.
    leaves_by: Option<(PrivateKey, DistinguishedName)>,
    issuing: PrivateKey,
    issuing_der: Vec<u8>,
    issuing_name: DistinguishedName,
    generation: u32,
    rng: RefCell<Counter>,
    issued: RefCell<Vec<u8>>,
    cp: RefCell<Vec<u8>>,
    /// Every certificate that was issued without a lie, and whose it is.
    known: RefCell<Vec<(Vec<u8>, Ueid)>>,
    /// The CA's clock, seconds since 1970.
    pub now: Cell<u64>,
}

/// A root of before.
struct Older {
    root_der: Vec<u8>,
    key: PrivateKey,
    /// The root after it under its key.
    link: Vec<u8>,
}

/// What a request asks for, whichever way it asks.
struct Wanted {
    spki_der: Vec<u8>,
    subject: DistinguishedName,
    san: Vec<SanEntry>,
    req_id: i64,
    answer: BodyKind,
}

/// Verifies the octets of a signature's BIT STRING.
fn verify_bits(spki_der: &[u8], message: &[u8], bits: &[u8]) {
    let public = tegata_crypto::PublicKey::from_spki_der(spki_der).unwrap();
    let alg = public.alg().signature_alg();
    let raw = alg.signature_from_bits(bits).unwrap();
    RustCrypto.verify(&public, message, &raw).unwrap();
}

fn certify(
    issuer: &PrivateKey,
    issuer_name: &DistinguishedName,
    subject: &DistinguishedName,
    spki_der: Vec<u8>,
    validity: Validity,
    extensions: ExtensionSet,
    serial: u8,
) -> Vec<u8> {
    let alg = issuer.alg().signature_alg();
    let tbs = CertBuilder {
        serial: SerialNumber::from_random(&[serial; 16]),
        signature_alg: alg,
        issuer: issuer_name.clone(),
        validity,
        subject: subject.clone(),
        spki_der,
        extensions,
    }
    .to_tbs()
    .unwrap();
    let signature = issuer.sign(&tbs).unwrap();
    assemble_certificate(&tbs, alg, &signature).unwrap()
}

fn ca_extensions(path_len: Option<u8>) -> ExtensionSet {
    let mut set = ExtensionSet::new();
    set.basic_constraints(true, path_len).unwrap();
    set.key_usage_bits(usage::KEY_CERT_SIGN | usage::CRL_SIGN)
        .unwrap();
    set
}

/// A CA's key and name under another's, or its own.
fn ca_certificate(
    (by, by_name): (&PrivateKey, &DistinguishedName),
    (subject, subject_name): (&PrivateKey, &DistinguishedName),
    path_len: Option<u8>,
) -> Vec<u8> {
    let validity = Validity {
        not_before_secs: NOW - YEAR,
        not_after_secs: Some(NOW + 10 * YEAR),
    };
    let spki = subject.public_key().to_spki_der().unwrap();
    let serial = 1 + RustCrypto.sha256(&spki)[0] / 4;
    let extensions = ca_extensions(path_len);
    certify(
        by,
        by_name,
        subject_name,
        spki,
        validity,
        extensions,
        serial,
    )
}

static SEEDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);

impl Ca {
    /// A fresh CA whose keys are of the kind it wants devices to have.
    pub fn new(kind: KeyKind, confirm: ConfirmMode) -> Self {
        let seed = SEEDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed) << 32;
        let mut rng = Counter(seed);
        let root = PrivateKey::generate(alg_of(kind), &mut rng).unwrap();
        let root_name = name("Test Root");
        let root_der = ca_certificate((&root, &root_name), (&root, &root_name), None);
        let issuing = PrivateKey::generate(alg_of(kind), &mut rng).unwrap();
        let issuing_name = name("Test Issuing CA");
        let by = (&root, &root_name);
        let issuing_der = ca_certificate(by, (&issuing, &issuing_name), Some(0));
        Self {
            several: false,
            kind,
            confirm,
            root,
            root_der,
            older: Vec::new(),
            leaves_by: None,
            issuing,
            issuing_der,
            issuing_name,
            generation: 1,
            rng: RefCell::new(rng),
            issued: RefCell::default(),
            cp: RefCell::default(),
            known: RefCell::default(),
            now: Cell::new(NOW),
        }
    }

    /// The same CA with a new issuing key, under a new root if asked, which the old one vouches for.
    pub fn rolled_over(self, new_root: bool) -> Self {
        let number = self.generation + 1;
        let mut rng = self.rng.borrow_mut();
        let view = CertView::from_der(&self.root_der).unwrap();
        let old_name = DistinguishedName::from_der(view.subject_der).unwrap();
        let mut older = self.older;
        let (root, root_name, root_der) = if new_root {
            let root = PrivateKey::generate(alg_of(self.kind), &mut *rng).unwrap();
            let root_name = name(&format!("Test Root G{number}"));
            let root_der = ca_certificate((&root, &root_name), (&root, &root_name), None);
            let link = ca_certificate((&self.root, &old_name), (&root, &root_name), None);
            let before = Older {
                root_der: self.root_der,
                key: self.root,
                link,
            };
            older.insert(0, before);
            (root, root_name, root_der)
        } else {
            (self.root, old_name, self.root_der)
        };
        let issuing = PrivateKey::generate(alg_of(self.kind), &mut *rng).unwrap();
        let issuing_name = name(&format!("Test Issuing CA G{number}"));
        let by = (&root, &root_name);
        let issuing_der = ca_certificate(by, (&issuing, &issuing_name), Some(0));
        drop(rng);
        Self {
            root,
            root_der,
            older,
            issuing,
            issuing_der,
            issuing_name,
            generation: number,
            ..self
        }
    }

    /// Takes over whom another CA knows, as an impostor may.
    pub fn knows_what(&self, other: &Self) {
        self.known.replace(other.known.borrow().clone());
    }

    /// The certificates that lead from the newest root to the oldest.
    pub fn links(&self) -> Vec<Vec<u8>> {
        self.older.iter().map(|older| older.link.clone()).collect()
    }

    pub fn root_key(&self) -> &PrivateKey {
        &self.root
    }

    /// The key of the root before, which vouches for this one.
    pub fn older_key(&self) -> &PrivateKey {
        &self.older[0].key
    }

    /// Another key of the kind that this CA has.
    pub fn another_key(&self) -> PrivateKey {
        PrivateKey::generate(alg_of(self.kind), &mut *self.rng.borrow_mut()).unwrap()
    }

    /// The same CA, which answers as before, and whose certificates another one issues.
    pub fn with_leaves_by(self, key: PrivateKey, common: &str) -> Self {
        Self {
            leaves_by: Some((key, name(common))),
            ..self
        }
    }

    pub fn csr_auth_key(&self, ueid: &Ueid) -> [u8; 32] {
        let key = csr_auth::device_csr_auth_key(
            &RustCrypto,
            &Secret::new(MASTER),
            RELEASE.as_bytes(),
            ueid.as_bytes(),
        )
        .unwrap();
        *key.expose_secret()
    }

    /// A CA that orders three kinds: `device` signs, `agreement` agrees, `both` does both.
    pub fn of_several(kind: KeyKind, confirm: ConfirmMode) -> Self {
        Self {
            several: true,
            ..Self::new(kind, confirm)
        }
    }

    pub fn procedure(&self) -> Procedure {
        let mut certificates = vec![self.order("device", usage::DIGITAL_SIGNATURE)];
        if self.several {
            certificates.push(self.order("agreement", usage::KEY_AGREEMENT));
            let both = usage::DIGITAL_SIGNATURE | usage::KEY_AGREEMENT;
            certificates.push(self.order("both", both));
        }
        Procedure {
            release_name: "test 1".into(),
            protocol_profile: ProtocolProfile::Default,
            certificates,
            trust_anchors: {
                let older = self.older.iter().map(|older| older.root_der.clone());
                [self.root_der.clone()].into_iter().chain(older).collect()
            },
        }
    }

    fn order(&self, profile: &str, key_usage: u16) -> CertificateOrder {
        let template = |text| Template::new(text).unwrap();
        let spec = |name| AttributeSpec::by_name(name).unwrap();
        CertificateOrder {
            profile: profile.into(),
            key_kind: self.kind,
            subject: vec![
                (spec("CN"), template("sensor {serial}")),
                (spec("serialNumber"), template("{ueid}")),
            ],
            san: vec![
                SanTemplate::HardwareModule {
                    hw_type: "1.3.6.1.4.1.32473.1".parse().unwrap(),
                    serial: template("{serial}"),
                },
                SanTemplate::PermanentIdentifier {
                    value: template("{ueid}"),
                    assigner: None,
                },
                SanTemplate::Dns(template("d-{ueid}.example")),
            ],
            required: vec![IdentityAttribute::Serial],
            key_usage,
            ext_key_usage: vec![oid::KP_CLIENT_AUTH],
            validity_secs: Some(YEAR),
            renewal_window_secs: 30 * 86_400,
            cmp_path: format!("/.well-known/cmp/p/{profile}"),
            confirm_mode: self.confirm,
        }
    }

    pub fn issuing_der(&self) -> &[u8] {
        &self.issuing_der
    }

    pub fn last_issued(&self) -> Vec<u8> {
        self.issued.borrow().clone()
    }

    pub fn last_cp(&self) -> Vec<u8> {
        self.cp.borrow().clone()
    }

    fn nonce(&self) -> [u8; 16] {
        let mut nonce = [0; 16];
        self.rng.borrow_mut().fill(&mut nonce).unwrap();
        nonce
    }

    /// Checks who sent a message as the CA must: by the signature of the certificate that it shows,
    /// or by the MAC with the key of the senderKID.
    fn authenticate(&self, bytes: &[u8]) -> (UnverifiedPkiMessage, Ueid) {
        let message = UnverifiedPkiMessage::from_der(bytes).unwrap();
        if let [first, ..] = message.extra_certs() {
            let known = self.known.borrow();
            let (der, ueid) = known
                .iter()
                .find(|(der, _)| der == first.as_bytes())
                .unwrap();
            let view = CertView::from_der(der).unwrap();
            let header = message.header();
            assert_eq!(header.sender_kid(), view.subject_key_id().unwrap());
            assert_eq!(header.sender_name().unwrap().as_der(), view.subject_der);
            let alg = alg_of(self.kind).signature_alg();
            let named = header.protection().unwrap().unwrap();
            assert_eq!(named, ProtectionAlg::Signature(alg));
            verify_bits(view.spki_der, &message.protected_part().unwrap(), {
                message.protection().unwrap()
            });
            let ueid = *ueid;
            drop(known);
            return (message, ueid);
        }
        let kid = message.header().sender_kid().unwrap();
        let (release, ueid) = kid.split_at(16);
        assert_eq!(release, RELEASE.prefix());
        let ueid = Ueid::from_slice(ueid).unwrap();
        let protection = message.header().protection().unwrap().unwrap();
        assert_eq!(protection, ProtectionAlg::HMAC_SHA256);
        let part = message.protected_part().unwrap();
        let mac = RustCrypto.hmac_sha256(&self.csr_auth_key(&ueid), &part);
        assert_eq!(message.protection().unwrap(), mac);
        (message, ueid)
    }

    /// What a p10cr or kur asks for, after checking that the asker has the key.
    fn wanted(&self, message: &UnverifiedPkiMessage) -> Wanted {
        match message.body().decode().unwrap() {
            PkiBody::P10cr(csr) => {
                let csr = AllegedCsr::from_der(csr.as_bytes()).unwrap();
                verify_bits(&csr.spki_der, &csr.tbs_der, &csr.signature);
                Wanted {
                    subject: csr.subject.clone(),
                    san: csr.san().unwrap(),
                    req_id: P10CR_CERT_REQ_ID,
                    answer: BodyKind::Cp,
                    spki_der: csr.spki_der,
                }
            }
            PkiBody::Kur(requests) => {
                let [asked] = &requests.into_vec()[..] else {
                    panic!("one request")
                };
                let request = asked.request().unwrap();
                let public_key = request.cert_template.public_key.as_ref();
                let spki_der = public_key.unwrap().to_der().unwrap();
                let Some(ProofOfPossession::Signature(popo)) = &asked.popo else {
                    panic!("a signature proves possession")
                };
                assert!(popo.popo_sk_input.is_none());
                let signature = popo.signature.as_bytes().unwrap();
                verify_bits(&spki_der, asked.cert_req.as_bytes(), signature);
                // It names the very certificate that protects it.
                let old = CertView::from_der(message.extra_certs()[0].as_bytes()).unwrap();
                let id = request.old_cert_id().unwrap().unwrap();
                assert_eq!(id.issuer_der().unwrap(), old.issuer_der);
                assert_eq!(id.serial(), old.serial);
                // The TA vouches for the new key, by the secret that it has with the CA.
                let token = request.reg_token().unwrap().unwrap();
                let token = RenewalToken::parse(&token).unwrap();
                let sha256 = |bytes: &[u8]| RustCrypto.sha256(bytes);
                let input = token_input(&sha256(&spki_der), &sha256(old.der));
                if token.kid.release_prefix == RELEASE.prefix() {
                    let key = self.csr_auth_key(&token.kid.ueid);
                    assert_eq!(RustCrypto.hmac_sha256(&key, &input), token.mac);
                }
                let template = request.cert_template;
                let extensions = template.extensions.unwrap().into_vec();
                let [san] = &extensions[..] else {
                    panic!("one extension")
                };
                assert_eq!((san.extn_id, san.critical), (oid::SUBJECT_ALT_NAME, false));
                assert_eq!(request.cert_req_id, 0);
                let subject = template.subject.unwrap().to_der().unwrap();
                Wanted {
                    subject: DistinguishedName::from_der(&subject).unwrap(),
                    san: decode_san(san.extn_value.as_bytes()).unwrap(),
                    req_id: 0,
                    answer: BodyKind::Kup,
                    spki_der,
                }
            }
            other => panic!("{other:?}"),
        }
    }

    /// The key that a request asks a certificate for: DER of its SubjectPublicKeyInfo.
    pub fn requested_key(&self, request: &[u8]) -> Vec<u8> {
        let (message, _) = self.authenticate(request);
        self.wanted(&message).spki_der
    }

    /// Answers a p10cr with a cp, a kur with a kup; with lies if asked.
    pub fn answer(&self, request: &[u8], lies: &[Tamper]) -> Option<Vec<u8>> {
        let lie = |tamper| lies.contains(&tamper);
        let (message, ueid) = self.authenticate(request);
        let wanted = self.wanted(&message);
        // The request equals the CA's own expansion of the procedure.
        let seed = ueid.as_bytes()[1];
        let mut identity = Identity::new(ueid);
        identity.serial = Some(format!("SN-{seed:04}"));
        let procedure = self.procedure();
        let said = message.header().cert_profile().unwrap();
        assert_eq!(said.is_some(), self.several, "several kinds are told apart");
        let order = procedure.certificate(said.as_deref().unwrap_or("device"));
        let order = order.unwrap();
        let subject = order.subject(&identity).unwrap();
        let san = order.san(&identity).unwrap();
        assert_eq!((&wanted.subject, &wanted.san), (&subject, &san));

        let certificate = self.leaf(&wanted.spki_der, order, &identity, &lie);
        if lies.is_empty() {
            self.issued.replace(certificate.clone());
            self.known.borrow_mut().push((certificate.clone(), ueid));
        }
        let id = if lie(Tamper::OtherRequestId) {
            -1 - wanted.req_id
        } else {
            wanted.req_id
        };
        let mut body = if lie(Tamper::Rejected) {
            RawBody::cp_rejected(id, PkiFailureInfo::BAD_CERT_TEMPLATE, "no").unwrap()
        } else if lie(Tamper::Revoked) {
            RawBody::cp_rejected(id, PkiFailureInfo::CERT_REVOKED, "revoked").unwrap()
        } else if lie(Tamper::Unavailable) {
            RawBody::cp_rejected(id, PkiFailureInfo::SYSTEM_UNAVAIL, "not now").unwrap()
        } else if lie(Tamper::ErrorMessage) {
            RawBody::error(PkiFailureInfo::SYSTEM_FAILURE, "no").unwrap()
        } else {
            RawBody::cp_granted(id, &certificate).unwrap()
        };
        if body.kind == BodyKind::Cp {
            let other = match wanted.answer {
                BodyKind::Cp => BodyKind::Kup,
                _ => BodyKind::Cp,
            };
            let lied = lie(Tamper::OtherKind);
            body.kind = if lied { other } else { wanted.answer };
        }
        let der = self.reply(message.header(), &body, &lie);
        if lies.is_empty() {
            self.cp.replace(der.clone());
        }
        Some(der)
    }

    fn leaf(
        &self,
        spki_der: &[u8],
        order: &CertificateOrder,
        identity: &Identity,
        lie: &dyn Fn(Tamper) -> bool,
    ) -> Vec<u8> {
        let mut rng = self.rng.borrow_mut();
        let other = PrivateKey::generate(alg_of(self.kind), &mut *rng).unwrap();
        let spki = if lie(Tamper::OtherKey) {
            other.public_key().to_spki_der().unwrap()
        } else {
            spki_der.to_vec()
        };
        let subject = if lie(Tamper::OtherSubject) {
            name("sensor 2")
        } else {
            order.subject(identity).unwrap()
        };
        let mut who = identity.clone();
        if lie(Tamper::OtherSan) {
            who.serial = Some("SN-0002".into());
        }
        let mut set = ExtensionSet::new();
        let public = tegata_crypto::PublicKey::from_spki_der(&spki).unwrap();
        set.subject_key_id(&public.x509_key_id()).unwrap();
        set.basic_constraints(lie(Tamper::CaCertificate), None)
            .unwrap();
        let bits = if lie(Tamper::OtherKeyUsage) {
            order.key_usage | usage::KEY_CERT_SIGN
        } else {
            order.key_usage
        };
        set.key_usage_bits(bits).unwrap();
        let purpose = if lie(Tamper::OtherPurpose) {
            oid::KP_CODE_SIGNING
        } else {
            oid::KP_CLIENT_AUTH
        };
        set.ext_key_usage(&[purpose]).unwrap();
        if !lie(Tamper::NoSan) {
            set.subject_alt_name(&order.san(&who).unwrap(), false)
                .unwrap();
        }
        if lie(Tamper::UnknownCritical) {
            set.push(tegata_wire::x509::Extension {
                oid: "1.3.6.1.4.1.32473.99".parse().unwrap(),
                critical: true,
                value: vec![5, 0],
            })
            .unwrap();
        }
        let now = self.now.get();
        let (begin, end) = match () {
            () if lie(Tamper::Expired) => (now - YEAR, now - 1),
            () if lie(Tamper::NotYetValid) => (now + 3600, now + YEAR),
            () if lie(Tamper::TooLong) => (now, now + 2 * YEAR),
            () => (now, now + YEAR),
        };
        let validity = Validity {
            not_before_secs: begin,
            not_after_secs: Some(end),
        };
        let serial = RustCrypto.sha256(&spki)[0];
        let (signer, by) = match &self.leaves_by {
            _ if lie(Tamper::ForeignRoot) => (&other, &self.issuing_name),
            Some((key, name)) => (key, name),
            None => (&self.issuing, &self.issuing_name),
        };
        let mut der = certify(signer, by, &subject, spki, validity, set, serial);
        if lie(Tamper::AltersCertificate) {
            // A bit of the certificate's own signature.
            *der.last_mut().unwrap() ^= 1;
        }
        der
    }

    fn reply(&self, request: &PkiHeader, body: &RawBody, lie: &dyn Fn(Tamper) -> bool) -> Vec<u8> {
        let mut rng = Counter(77 << 40);
        let foreign = PrivateKey::generate(alg_of(self.kind), &mut rng).unwrap();
        let by_foreign = lie(Tamper::ForeignProtection) || lie(Tamper::SignedByLeaf);
        let signer = if by_foreign { &foreign } else { &self.issuing };
        let alg = signer.alg().signature_alg();
        let sender = directory_name(&self.issuing_name).unwrap();
        let mut header = PkiHeader::reply_to(request, sender);
        if !lie(Tamper::NoSenderNonce) {
            header = header.with_sender_nonce(&self.nonce()).unwrap();
        }
        if !lie(Tamper::NoTime) {
            header = header.with_message_time(self.now.get()).unwrap();
        }
        if lie(Tamper::OtherTransaction) {
            header = header.with_transaction_id(&[9; 16]).unwrap();
        }
        if lie(Tamper::OtherNonce) {
            header = header.with_recip_nonce(&[9; 16]).unwrap();
        }
        if matches!(body.kind, BodyKind::Cp | BodyKind::Kup) && request.implicit_confirm() {
            header = header.with_implicit_confirm().unwrap();
        }
        let mut extra = vec![RawDer::from_bytes(&self.issuing_der).unwrap()];
        for older in &self.older {
            if !lie(Tamper::NoLink) {
                extra.push(RawDer::from_bytes(&older.link).unwrap());
            }
        }
        if lie(Tamper::NoIssuer) {
            extra.clear();
        }
        if lie(Tamper::SignedByLeaf) {
            // A certificate under our CA, but of a device, signs the message.
            let mut set = ExtensionSet::new();
            set.key_usage_bits(usage::DIGITAL_SIGNATURE).unwrap();
            let spki = foreign.public_key().to_spki_der().unwrap();
            let validity = Validity {
                not_before_secs: NOW - 1,
                not_after_secs: Some(NOW + YEAR),
            };
            let by = &self.issuing_name;
            let leaf = certify(&self.issuing, by, by, spki, validity, set, 9);
            extra.push(RawDer::from_bytes(&leaf).unwrap());
        }
        if lie(Tamper::NotSigned) {
            let message = MessageToProtect::new(&header, body).unwrap();
            return message.into_der(None, &extra).unwrap();
        }
        let header = header
            .with_protection(&ProtectionAlg::Signature(alg))
            .unwrap();
        let message = MessageToProtect::new(&header, body).unwrap();
        let raw = signer.sign(&message.protected_part().unwrap()).unwrap();
        let bits = alg.signature_to_bits(&raw).unwrap();
        message.into_der(Some(&bits), &extra).unwrap()
    }

    /// Answers certConf with pkiConf, after checking what it confirms.
    pub fn confirm(&self, cert_conf: &[u8]) -> Option<Vec<u8>> {
        let message = UnverifiedPkiMessage::from_der(cert_conf).ok()?;
        let content = message.body().cert_conf_content().unwrap().into_vec();
        assert_eq!(content.len(), 1);
        // By the key that asked, for the request that it made. Spec: RFC 9483 section 4.1.1.
        let by_certificate = !message.extra_certs().is_empty();
        let req_id = if by_certificate { 0 } else { -1 };
        assert_eq!(content[0].cert_req_id, req_id);
        if !self.issued.borrow().is_empty() {
            self.authenticate(cert_conf);
            let issued = self.issued.borrow();
            let hash = match self.kind {
                KeyKind::P256 => RustCrypto.sha256(&issued).to_vec(),
                KeyKind::P384 => RustCrypto.sha384(&issued).to_vec(),
                _ => RustCrypto.sha512(&issued).to_vec(),
            };
            assert_eq!(content[0].cert_hash.as_bytes(), hash);
            assert!(content[0].is_accepted());
        }
        let body = RawBody::pki_conf().unwrap();
        Some(self.reply(message.header(), &body, &|_| false))
    }
}
