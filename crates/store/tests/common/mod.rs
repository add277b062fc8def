//! A CA, a TAM and a Verifier over real stores, and a device made of keys alone.
#![allow(dead_code)]

pub mod deaths;
pub mod elsewhere;
pub mod fleet;
pub mod killer;
pub mod kur;
pub mod ocsp;
pub mod peers;
pub mod place;
pub mod psa;
pub mod ready;
pub mod requests;
pub mod rolled;
pub mod rows;
pub mod secrets;
pub mod serve;
pub mod stops;
pub mod undo;

use std::path::Path;
use std::sync::Arc;

#[allow(unused_imports)] // Each test uses some.
pub use peers::Direct;
#[allow(unused_imports)] // Each test uses some.
pub use place::{Sql, on_files, open_store, open_store_with};

use tegata_authority::ca::authority_cert::CaDraft;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::factory::{BatchSpec, DeviceSecret, MadeBatch, make_devices, sign_manifest};
use tegata_authority::profile::Profiles;
use tegata_authority::tam::availability::Availability;
use tegata_authority::verifier::AppraisalPolicy;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::cose::{Sign1Headers, sign1, verify_sign1};
use tegata_crypto::device_keys::{
    attestation_key, delivery_ecdh_key, delivery_kek, software_derive, teep_key,
};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::seal::SealingKey;
use tegata_crypto::suit::{DeliveryKeys, open_payload};
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey, PublicKey, Rng, Secret, Signer};
use tegata_store::issuer::{CaSetup, CutRelease, Issuer, NewRelease};
use tegata_store::role::{Role, RoleError, Trust};
use tegata_store::tam::TamServer;
use tegata_store::verifier::VerifierServer;
use tegata_store::{Faults, NoFaults, StoreError};
use tegata_wire::cmp::{
    MessageToProtect, PkiHeader, ProtectionAlg, RawBody, UnverifiedPkiMessage, null_dn,
};
use tegata_wire::device::{DeviceIdentity, Oem};
use tegata_wire::enrolment::{Identity, PersonalizationData, Procedure};
use tegata_wire::ids::TaUuid;
use tegata_wire::rats::eat::{
    Confirmation, ContentItem, EatClaims, MeasuredComponent, OemId, Profile, TegataClaims, Version,
};
use tegata_wire::suit::{
    Command, ComponentId, Parameters, Reference, Section, SuitDigest, UnverifiedEnvelope,
};
use tegata_wire::teep::{
    Attestation, ErrCode, Error as TeepError, Message, QueryResponse, RequestedTc, Success, Update,
};
use tegata_wire::x509::{CertView, CsrBuilder, SignatureAlg, assemble_csr, cert_id};

pub const NOW: UnixMs = UnixMs(1_795_000_000_000);
pub const SECS: UnixSecs = UnixSecs(1_795_000_000);
pub const MODULE: &[u8] = b"\0asm\x01\0\0\0 not really a program";

/// A generator that a seed fixes: same seed, same run.
pub struct Seeded(pub u64);

impl Rng for Seeded {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        for byte in out {
            // SplitMix64: spread well enough for tests, and never used elsewhere.
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            *byte = (z ^ (z >> 31)).to_le_bytes()[0];
        }
        Ok(())
    }
}

pub fn role(path: &Path, faults: Arc<dyn Faults>) -> Role {
    open_role(path, faults).unwrap()
}

pub fn open_role(path: &Path, faults: Arc<dyn Faults>) -> Result<Role, StoreError> {
    Ok(Role {
        store: Arc::new(open_store_with(path, faults)?),
        provider: Arc::new(RustCrypto),
        sealing: Arc::new(SealingKey::new(Secret::new([9; 32]))),
    })
}

/// What `tegata init` does in the stores of CA, TAM and Verifier: keys, and who believes whom. What is there
/// already stays.
pub fn found(
    [ca, tam, verifier]: [Role; 3],
    factory: &PublicKey,
    issuing_alg: KeyAlg,
    rng: &mut Seeded,
) -> Result<(Issuer, TamServer, VerifierServer), RoleError> {
    let setup = CaSetup {
        draft: CaDraft::for_organization("Tegata 手形"),
        root_alg: KeyAlg::P384,
        issuing_alg,
    };
    let there = |made| match made {
        Err(RoleError::HasKey(_)) => Ok(()),
        made => made,
    };
    there(Issuer::init(&ca, &setup, rng, SECS))?;
    there(TamServer::init(&tam, rng, SECS))?;
    there(VerifierServer::init(&verifier, rng, SECS))?;
    let ca = Issuer::open(ca, profiles(), MacPolicy::default())?;
    let tam = TamServer::open(tam, None)?;
    let policy = AppraisalPolicy::parse(tegata_authority::verifier::EXAMPLE).unwrap();
    let verifier = VerifierServer::open(verifier, policy)?;
    for role in [ca.role(), tam.role(), verifier.role()] {
        role.trust(Trust::Factory, factory, "factory", SECS)?;
    }
    for role in [tam.role(), verifier.role()] {
        role.trust(Trust::Release, ca.release_public_key(), "CA", SECS)?;
    }
    for role in [ca.role(), tam.role()] {
        role.trust(Trust::Verifier, verifier.public_key(), "Verifier", SECS)?;
    }
    ca.role().trust(Trust::Tam, tam.public_key(), "TAM", SECS)?;
    Ok((ca, tam, verifier))
}

pub fn profiles() -> Profiles {
    Profiles::parse(tegata_authority::profile::EXAMPLE).unwrap()
}

/// Everything of one installation, in one directory.
pub struct World {
    pub dir: tempfile::TempDir,
    pub ca: Issuer,
    pub tam: TamServer,
    pub verifier: VerifierServer,
    pub factory: PrivateKey,
    pub rng: Seeded,
}

impl World {
    pub fn new() -> Self {
        Self::with(KeyAlg::P256)
    }

    pub fn with(issuing_alg: KeyAlg) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut rng = Seeded(1);
        let factory = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
        let roles = ["ca", "tam", "verifier"].map(|name| {
            let path = dir.path().join(format!("{name}.db"));
            role(&path, Arc::new(NoFaults))
        });
        let founded = found(roles, factory.public_key(), issuing_alg, &mut rng);
        let (ca, tam, verifier) = founded.unwrap();
        Self {
            dir,
            ca,
            tam,
            verifier,
            factory,
            rng,
        }
    }

    /// Opens the CA anew, as after a crash.
    pub fn reopen_ca(&mut self, faults: Arc<dyn Faults>) {
        let role = role(&self.dir.path().join("ca.db"), faults);
        self.ca = Issuer::open(role, profiles(), MacPolicy::default()).unwrap();
    }

    pub fn reopen_tam(&mut self, faults: Arc<dyn Faults>) {
        let role = role(&self.dir.path().join("tam.db"), faults);
        self.tam = TamServer::open(role, None).unwrap();
    }

    pub fn batch(&mut self, name: &str, count: usize) -> Vec<Device> {
        let made = batch(&mut self.rng, name, count);
        let signed = sign_manifest(&made.manifest, &self.factory).unwrap();
        for r in [self.ca.role(), self.tam.role(), self.verifier.role()] {
            let imported = r.import_devices(&signed, SECS).unwrap();
            assert_eq!((imported.devices, imported.again), (count, false));
            assert!(r.import_devices(&signed, SECS).unwrap().again);
        }
        let keks = made.keks.encode().unwrap();
        assert_eq!(self.tam.import_keks(&keks, &mut self.rng).unwrap(), count);
        made.secrets.into_iter().map(Device::new).collect()
    }

    pub fn release(&mut self, module: &[u8], paper: bool, rule: Availability) -> CutRelease {
        let exchange = self.tam.exchange_public_key().clone();
        let new = NewRelease {
            ta_name: "enrol",
            module,
            profiles: &["device"],
            paper_exchange_key: paper.then_some(&exchange),
            available: &Availability::Everybody,
        };
        let cut = self.ca.release(&new, &mut self.rng, SECS).unwrap();
        self.tam.import_release(&cut.package, &rule, SECS).unwrap();
        self.tam.import_release(&cut.package, &rule, SECS).unwrap();
        self.verifier
            .import_reference_value(&cut.ta_envelope, SECS)
            .unwrap();
        cut
    }
}

pub fn batch(rng: &mut Seeded, name: &str, count: usize) -> MadeBatch {
    let spec = BatchSpec {
        batch: name.into(),
        maker: "Example Works".into(),
        vendor_domain: "example.com".into(),
        oemid: Oem::Pen(32473),
        model: "gateway".into(),
        hwversion: "1.0".into(),
        serial_prefix: format!("{name}-"),
        first_number: 1,
        imei_type_code: Some(35_175_605),
        with_mac: true,
        security_level: "software".into(),
    };
    make_devices(&RustCrypto, rng, &spec, count, SECS).unwrap()
}

/// What a device has after an installation.
#[derive(Clone)]
pub struct Installed {
    pub ta: TaUuid,
    pub release: SuitDigest,
    pub module: Vec<u8>,
    pub procedure: Procedure,
    pub kid: Vec<u8>,
    pub key: [u8; 32],
}

/// A device: its keys, and what a TEE would do with them.
pub struct Device {
    pub identity: DeviceIdentity,
    pub attestation: PrivateKey,
    pub teep: PrivateKey,
    pub delivery: PrivateKey,
    pub kek: Secret<[u8; 16]>,
    pub installed: Option<Installed>,
    /// What the evidence says of the runtime.
    pub swname: String,
    pub swversion: String,
    pub security_level: String,
}

impl Device {
    pub fn new(secret: DeviceSecret) -> Self {
        let p = &RustCrypto;
        let derive =
            |label: &str, context: &[u8]| software_derive(p, &secret.tee_key, label, context);
        Self {
            attestation: attestation_key(p, &derive).unwrap(),
            teep: teep_key(p, &derive).unwrap(),
            delivery: delivery_ecdh_key(p, &derive).unwrap(),
            kek: delivery_kek(&derive).unwrap(),
            identity: secret.identity,
            installed: None,
            swname: "tegata-teed".into(),
            swversion: "0.1.0".into(),
            security_level: "software".into(),
        }
    }

    /// The answer to a QueryRequest, asking for the TAs.
    pub fn query_response(&self, query: &[u8], tam: &PublicKey, ask: &[TaUuid]) -> Vec<u8> {
        let verified = verify_sign1(&RustCrypto, query, tam, b"", None).unwrap();
        let Message::QueryRequest(request) = Message::decode(verified.payload()).unwrap() else {
            panic!("not a QueryRequest")
        };
        self.answer(request.challenge.unwrap().as_bytes(), ask)
    }

    pub fn answer(&self, nonce: &[u8], ask: &[TaUuid]) -> Vec<u8> {
        let component = |ta: &TaUuid, leaf: &str| {
            ComponentId::new(&[
                b"TEEP-Device",
                b"SecureFS".as_slice(),
                ta.as_bytes(),
                leaf.as_bytes(),
            ])
        };
        let requested = ask.iter().map(|ta| RequestedTc {
            component_id: component(ta, "ta"),
            tc_manifest_sequence_number: None,
            have_binary: None,
        });
        let response = QueryResponse {
            attestation: Some(Attestation {
                format: None,
                payload: self.evidence(nonce),
            }),
            requested_tc_list: (!ask.is_empty()).then(|| requested.collect()),
            ..QueryResponse::default()
        };
        self.sign(&Message::QueryResponse(response))
    }

    pub fn sign(&self, message: &Message) -> Vec<u8> {
        let payload = message.encode().unwrap();
        sign1(&self.teep, &payload, &Sign1Headers::default(), b"", false).unwrap()
    }

    pub fn claims(&self, nonce: &[u8]) -> EatClaims {
        let Oem::Pen(pen) = self.identity.oemid else {
            panic!("PEN expected")
        };
        let mut claims = EatClaims {
            cnf: Some(Confirmation::kid(
                self.teep.public_key().thumbprint().to_vec(),
            )),
            eat_nonce: vec![nonce.to_vec()],
            ueid: Some(self.identity.ueid),
            oemid: Some(OemId::Pen(pen)),
            hwmodel: Some(self.identity.hwmodel.clone()),
            hwversion: Some(Version {
                version: self.identity.hwversion.clone(),
                scheme: None,
            }),
            eat_profile: Some(Profile::Uri("tag:tegata.dev,2026:evidence#1".into())),
            swname: Some(self.swname.clone()),
            swversion: Some(Version {
                version: self.swversion.clone(),
                scheme: None,
            }),
            tegata: TegataClaims {
                security_level: Some(self.security_level.clone()),
                ..TegataClaims::default()
            },
            ..EatClaims::default()
        };
        if let Some(i) = &self.installed {
            let reference = Reference {
                uri: String::new(),
                digest: i.release.clone(),
            };
            claims
                .manifests
                .push(ContentItem::suit_reference(&reference).unwrap());
            let digest =
                tegata_wire::ids::Digest(tegata_crypto::Provider::sha256(&RustCrypto, &i.module));
            let measured = MeasuredComponent::sha256(&i.ta.to_string(), None, digest);
            claims
                .measurements
                .push(ContentItem::measured_component(&measured).unwrap());
        }
        claims
    }

    pub fn evidence(&self, nonce: &[u8]) -> Vec<u8> {
        let payload = self.claims(nonce).encode().unwrap();
        sign1(
            &self.attestation,
            &payload,
            &Sign1Headers::default(),
            b"",
            false,
        )
        .unwrap()
    }

    /// Processes an Update as far as keys go: signatures, digests, decryption. Returns the token.
    pub fn process(&mut self, update: &[u8], tam: &PublicKey, ca: &PublicKey) -> Vec<u8> {
        let verified = verify_sign1(&RustCrypto, update, tam, b"", None).unwrap();
        let Message::Update(update) = Message::decode(verified.payload()).unwrap() else {
            panic!("not an Update")
        };
        let token = update.token.clone().unwrap().as_bytes().to_vec();
        if update.manifest_list.is_none() {
            assert!(update.unneeded_manifest_list.is_some());
            self.installed = None;
            return token;
        }
        self.install(&update, tam, ca);
        token
    }

    fn install(&mut self, update: &Update, tam: &PublicKey, ca: &PublicKey) {
        let p = &RustCrypto;
        let [envelope] = update.manifest_list.as_deref().unwrap() else {
            panic!("one manifest")
        };
        let verify = |bytes: &[u8], key: &PublicKey| {
            let unverified = UnverifiedEnvelope::decode(bytes).unwrap();
            tegata_crypto::suit::verify_envelope(p, unverified, key).unwrap()
        };
        let dependent = verify(envelope, tam);
        let mut infos: Vec<Vec<u8>> = Vec::new();
        let mut digests = Vec::new();
        for command in dependent
            .manifest()
            .sequence(Section::Install)
            .unwrap()
            .commands()
        {
            if let Command::OverrideParameters(p) = command {
                infos.extend(p.encryption_info.clone());
                digests.extend(p.image_digest.clone());
            }
        }
        let ta = verify(dependent.integrated("#dep-ta").unwrap(), ca);
        let config = verify(dependent.integrated("#dep-config").unwrap(), ca);
        assert_eq!(&digests, &[ta.digest().clone(), config.digest().clone()]);
        let keys = DeliveryKeys {
            kek: Some(&self.kek),
            ecdh: Some(&self.delivery),
        };
        let module =
            open_payload(p, &infos[0], dependent.integrated("#ta").unwrap(), keys).unwrap();
        let data =
            open_payload(p, &infos[1], dependent.integrated("#config").unwrap(), keys).unwrap();
        check_image(&ta, module.expose_secret());
        check_image(&config, data.expose_secret());
        let data = PersonalizationData::decode(data.expose_secret()).unwrap();
        let procedure = shared(&ta).into_iter().find_map(|p| p.content).unwrap();
        let uri = ta.manifest().reference_uri.clone().unwrap();
        self.installed = Some(Installed {
            ta: TaUuid::from_reference_uri(&ta.signer(), &uri).unwrap(),
            release: ta.digest().clone(),
            module: module.expose_secret().clone(),
            procedure: Procedure::decode(&procedure).unwrap(),
            kid: data.sender_kid(&self.identity.ueid).unwrap().to_bytes(),
            key: *data.expose_csr_auth_key(),
        });
    }

    /// That an Update came to nothing.
    pub fn failure(&self, token: &[u8]) -> Vec<u8> {
        self.sign(&Message::Error(TeepError {
            token: Some(tegata_wire::teep::Token::new(token.to_vec()).unwrap()),
            ..TeepError::new(ErrCode::TemporaryError)
        }))
    }

    pub fn success(&self, token: &[u8]) -> Vec<u8> {
        self.sign(&Message::Success(Success {
            token: Some(tegata_wire::teep::Token::new(token.to_vec()).unwrap()),
            ..Success::default()
        }))
    }

    /// A PKCS#10 request as the procedure says, for a key.
    pub fn csr(&self, key: &PrivateKey) -> Vec<u8> {
        self.csr_in_place_of(key, None)
    }

    /// The same of a request that names a certificate (DER) in whose place it asks.
    pub fn csr_in_place_of(&self, key: &PrivateKey, old: Option<&[u8]>) -> Vec<u8> {
        let order = &self.installed.as_ref().unwrap().procedure.certificates[0];
        let identity = Identity::from(&self.identity);
        let builder = CsrBuilder {
            subject: order.subject(&identity).unwrap(),
            spki_der: key.public_key().to_spki_der().unwrap(),
            san: order.san(&identity).unwrap(),
            extensions: Vec::new(),
        };
        let old = old.map(|der| cert_id(&CertView::from_der(der).unwrap()).unwrap());
        let tbs = builder.to_tbs_in_place_of(old.as_deref()).unwrap();
        signed_csr(&tbs, key)
    }

    /// A p10cr under this device's `CsrAuthKey`.
    pub fn p10cr(&self, csr: &[u8], transaction: u8) -> Vec<u8> {
        let i = self.installed.as_ref().unwrap();
        protect(
            &i.kid,
            &i.key,
            transaction,
            None,
            &RawBody::p10cr(csr).unwrap(),
            false,
        )
    }

    /// The certConf that accepts a certificate, for the answer it came in.
    pub fn cert_conf(&self, cp: &[u8], hash: &[u8], transaction: u8) -> Vec<u8> {
        let i = self.installed.as_ref().unwrap();
        let answer = UnverifiedPkiMessage::from_der(cp).unwrap();
        let nonce = answer
            .header()
            .sender_nonce
            .clone()
            .unwrap()
            .as_bytes()
            .to_vec();
        let body = RawBody::cert_conf(-1, hash, None).unwrap();
        protect(&i.kid, &i.key, transaction, Some(&nonce), &body, false)
    }
}

pub fn sign_csr(builder: &CsrBuilder, key: &PrivateKey) -> Vec<u8> {
    signed_csr(&builder.to_tbs().unwrap(), key)
}

fn signed_csr(tbs: &[u8], key: &PrivateKey) -> Vec<u8> {
    let alg = SignatureAlg::from_oid(&key.public_key().alg().signature_oid()).unwrap();
    assemble_csr(tbs, alg, &key.sign(tbs).unwrap()).unwrap()
}

/// A CMP message under HMAC-SHA256.
pub fn protect(
    kid: &[u8],
    key: &[u8],
    transaction: u8,
    recip_nonce: Option<&[u8]>,
    body: &RawBody,
    implicit: bool,
) -> Vec<u8> {
    let mut header = PkiHeader::new(null_dn(), null_dn())
        .with_transaction_id(&[transaction; 16])
        .and_then(|h| h.with_sender_nonce(&[transaction ^ 0x55; 16]))
        .and_then(|h| h.with_sender_kid(kid))
        .and_then(|h| h.with_protection(&ProtectionAlg::HMAC_SHA256))
        .unwrap();
    if let Some(nonce) = recip_nonce {
        header = header.with_recip_nonce(nonce).unwrap();
    }
    if implicit {
        header = header.with_implicit_confirm().unwrap();
    }
    let message = MessageToProtect::new(&header, body).unwrap();
    let part = message.protected_part().unwrap();
    let mac = tegata_crypto::Provider::hmac_sha256(&RustCrypto, key, &part);
    message.into_der(Some(&mac), &[]).unwrap()
}

fn shared(envelope: &tegata_crypto::suit::VerifiedEnvelope) -> Vec<Parameters> {
    let commands = envelope
        .manifest()
        .common
        .shared
        .as_ref()
        .unwrap()
        .commands();
    commands
        .iter()
        .filter_map(|c| match c {
            Command::OverrideParameters(p) => Some(p.clone()),
            _ => None,
        })
        .collect()
}

fn check_image(envelope: &tegata_crypto::suit::VerifiedEnvelope, image: &[u8]) {
    let first = shared(envelope).remove(0);
    let digest = tegata_crypto::Provider::sha256(&RustCrypto, image);
    assert_eq!(first.image_digest.unwrap().bytes, digest);
    assert_eq!(first.image_size, u64::try_from(image.len()).ok());
}

/// The certificate in a cp, after its signature was verified; or why there is none.
pub fn certificate_of(cp: &[u8], ca: &Issuer) -> Result<Vec<u8>, String> {
    let message = UnverifiedPkiMessage::from_der(cp).unwrap();
    let issuer =
        tegata_authority::ca::authority_cert::Issuer::from_cert(ca.issuing_certificate()).unwrap();
    let alg =
        ProtectionAlg::from_identifier(message.header().protection_alg.as_ref().unwrap()).unwrap();
    let part = message.protected_part().unwrap();
    let _proof = tegata_crypto::cmp::verify_signature(
        &RustCrypto,
        &alg,
        &issuer.public_key,
        &part,
        message.protection().unwrap(),
    )
    .unwrap();
    match message.kind() {
        tegata_wire::cmp::BodyKind::Error => {
            let content = message.body().error_content().unwrap();
            Err(names(content.status.fail_info))
        }
        tegata_wire::cmp::BodyKind::Cp => {
            let rep = message.body().cert_rep().unwrap();
            let response = &rep.response[0];
            match &response.certified_key_pair {
                Some(pair) => match &pair.cert_or_enc_cert {
                    tegata_wire::cmp::CertOrEncCert::Certificate(der) => {
                        Ok(der.as_bytes().to_vec())
                    }
                    _ => panic!("an encrypted certificate"),
                },
                None => Err(names(response.status.fail_info)),
            }
        }
        tegata_wire::cmp::BodyKind::PkiConf => Err("PKI_CONF".into()),
        other => panic!("unexpected {other:?}"),
    }
}

fn names(info: Option<tegata_wire::cmp::PkiFailureInfo>) -> String {
    info.map(|i| i.names().collect::<Vec<_>>().join("|"))
        .unwrap_or_default()
}
