use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{CryptoError, KeyAlg, PrivateKey};

use super::*;
use crate::ca::authority_cert::{CaDraft, make_issuing, make_root};
use crate::profile::{EXAMPLE, Profiles};

/// Counts up: the same run every time.
struct Counting(u8);

impl Rng for Counting {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        for byte in out {
            self.0 = self.0.wrapping_mul(13).wrapping_add(7);
            *byte = self.0;
        }
        self.0 = self.0.wrapping_add(1);
        Ok(())
    }
}

const NOW: UnixMs = UnixMs(1_795_000_000_000);

struct Case {
    rng: Counting,
    issuing: PrivateKey,
    issuer: Issuer,
    identity: Identity,
    order: CertificateOrder,
    profile: Profile,
    device: PrivateKey,
}

impl Case {
    fn new() -> Self {
        let mut rng = Counting(3);
        let root = PrivateKey::generate(KeyAlg::P384, &mut rng).unwrap();
        let issuing = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
        let device = PrivateKey::generate(KeyAlg::Ed25519, &mut rng).unwrap();
        let draft = CaDraft::for_organization("手形");
        let root_cert = make_root(&draft, &root, &mut rng, NOW.secs()).unwrap();
        let cert = make_issuing(
            &draft,
            &root,
            &root_cert,
            issuing.public_key(),
            &mut rng,
            NOW.secs(),
        );
        let issuer = Issuer::from_cert(&cert.unwrap()).unwrap();
        let profile = Profiles::parse(EXAMPLE)
            .unwrap()
            .find("device")
            .unwrap()
            .clone();
        let order = profile.to_order();
        let mut identity = Identity::new(Ueid::from_random([7; 16]));
        identity.serial = Some("S-1".into());
        identity.model = Some("gateway".into());
        Self {
            rng,
            issuing,
            issuer,
            identity,
            order,
            profile,
            device,
        }
    }

    fn token(&self) -> IssuanceToken<'_> {
        let names = ExpectedNames::of(&self.order, &self.identity).unwrap();
        IssuanceToken {
            ueid: self.identity.ueid,
            means: Means::Ta(ReleaseDigest([1; 32])),
            request_digest: [2; 32],
            follows: Follows::None,
            public_key: self.device.public_key().clone(),
            given: given_extensions(&names, &self.profile).unwrap(),
            names,
            profile: &self.profile,
            validity: self.profile.validity,
        }
    }

    fn draft(&mut self) -> Draft {
        let mut rng = Counting(self.rng.0);
        let drafted = draft(&self.token(), &self.issuer, None, &mut rng, NOW);
        self.rng = rng;
        drafted.unwrap()
    }

    /// The check that a draft fails.
    fn fails(&self, draft: Draft, recorded: UnixSecs) -> String {
        match lint(&self.token(), &self.issuer, None, draft, recorded) {
            Ok(_) => panic!("the draft passed"),
            Err(IssueDenied::Lint(what)) => what.to_owned(),
            Err(e) => format!("{e}"),
        }
    }
}

#[test]
fn a_draft_passes_and_is_signed() {
    let mut case = Case::new();
    let draft = case.draft();
    let linted = lint(&case.token(), &case.issuer, None, draft.clone(), NOW.secs()).unwrap();
    let der = sign(&RustCrypto, linted, &case.issuing).unwrap();
    let view = CertView::from_der(&der).unwrap();
    assert_eq!(view.serial, draft.serial);
    assert_eq!(view.not_after_secs, NOW.secs().0 + 365 * 86_400);
    // Two drafts of one moment share the time of their serials, not the rest.
    let other = case.draft();
    assert_eq!(other.serial[..6], draft.serial[..6]);
    assert_ne!(other.serial, draft.serial);
}

#[test]
fn lint_finds_what_was_changed_after_drafting() {
    let mut case = Case::new();
    let good = case.draft();
    let now = NOW.secs();
    let changed = |change: &dyn Fn(&mut Draft)| {
        let mut draft = good.clone();
        change(&mut draft);
        draft
    };
    let serial = changed(&|d| d.serial[15] ^= 1);
    assert_eq!(case.fails(serial, now), "serial as recorded");
    let end = changed(&|d| d.not_after_secs += 1);
    assert_eq!(case.fails(end, now), "end as recorded");
    // Recorded long before or after the validity begins.
    assert_eq!(
        case.fails(good.clone(), UnixSecs(now.0 + 3_600)),
        "not backdated"
    );
    assert_eq!(
        case.fails(good.clone(), UnixSecs(now.0 - 3_600)),
        "valid at once"
    );
    // Every flipped bit of the bytes to sign is found by some check, or breaks the structure.
    for at in 0..good.tbs.len() {
        let draft = changed(&|d| d.tbs[at] ^= 1);
        let recorded = lint(&case.token(), &case.issuer, None, draft, now);
        // One second more or less of notBefore is within what lint allows.
        if let Ok(linted) = recorded {
            let not_before = linted.tbs.windows(13).position(|w| w == b"261118110140Z");
            assert!(not_before.is_none(), "byte {at}");
        }
    }
}

#[test]
fn lint_compares_with_this_device_key_profile_and_issuer() {
    let mut case = Case::new();
    let good = case.draft();
    let now = NOW.secs();
    let mut other = Case::new();
    other.issuing = PrivateKey::generate(KeyAlg::P256, &mut Counting(99)).unwrap();

    let original = case.device.dangerous_clone();
    case.device = PrivateKey::generate(KeyAlg::P256, &mut Counting(77)).unwrap();
    assert_eq!(case.fails(good.clone(), now), "public key");
    case.device = original;

    let serial = case.identity.serial.replace("S-2".into());
    assert_eq!(case.fails(good.clone(), now), "subject");
    case.identity.serial = serial;

    case.profile.extended_key_usage.clear();
    assert_eq!(case.fails(good.clone(), now), "extensions of the profile");
    case.profile = Profiles::parse(EXAMPLE)
        .unwrap()
        .find("device")
        .unwrap()
        .clone();

    case.profile.validity = Validity::Secs(86_400);
    assert_eq!(case.fails(good.clone(), now), "lifetime of the profile");
    case.profile.validity = Validity::Secs(365 * 86_400);

    case.issuer.key_id[0] ^= 1;
    assert_eq!(case.fails(good.clone(), now), "extensions of the profile");
    case.issuer.key_id[0] ^= 1;
    case.issuer.not_after_secs = now.0 + 86_400;
    assert_eq!(case.fails(good.clone(), now), "not after the issuer");
    case.issuer.not_before_secs = now.0 + 1;
    assert_eq!(case.fails(good, now), "not before the issuer");
}

#[test]
fn a_certificate_ends_with_its_issuer_and_without_end_too() {
    let mut case = Case::new();
    case.issuer.not_after_secs = NOW.secs().0 + 86_400;
    assert_eq!(case.draft().not_after_secs, case.issuer.not_after_secs);
    case.profile.validity = Validity::Indefinite;
    assert_eq!(case.draft().not_after_secs, case.issuer.not_after_secs);
    case.issuer.not_after_secs = NO_END_SECS;
    let draft = case.draft();
    let linted = lint(&case.token(), &case.issuer, None, draft, NOW.secs()).unwrap();
    let der = sign(&RustCrypto, linted, &case.issuing).unwrap();
    assert!(der.windows(15).any(|w| w == b"99991231235959Z"));
}

#[test]
fn a_device_that_the_profile_cannot_name_gets_nothing() {
    let mut case = Case::new();
    case.identity.serial = None;
    assert!(ExpectedNames::of(&case.order, &case.identity).is_err());
    for hidden in ["a\u{202e}b", "a\nb", "a\u{200b}"] {
        case.identity.serial = Some(hidden.into());
        assert!(
            ExpectedNames::of(&case.order, &case.identity).is_err(),
            "{hidden:?}"
        );
    }
}
