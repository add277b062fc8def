use super::*;
use tegata_wire::enrolment::{EnrolmentError, Identity};
use tegata_wire::ids::Ueid;

const GOOD: &str = r#"
[profile.idevid]
description = "製造時のデバイス証明書"
key_algorithms = ["P-256", "P-384", "Ed25519"]
subject = [{ C = "JP" }, { O = "手形工業株式会社" }, { CN = "{model} {serial}" }, { serialNumber = "{serial}" }]
key_usage = ["digitalSignature"]
extended_key_usage = ["clientAuth", "1.3.6.1.5.5.7.3.21"]
validity = "indefinite"
implicit_confirm = true

[profile.idevid.san]
hardware_module_type = "1.3.6.1.4.1.32473.1"
permanent_identifier = "{ueid}"
uri = ["urn:dev:{ueid}"]

[profile.modem]
key_algorithms = ["P-256"]
subject = [{ CN = "{imei}" }]
require = ["imei"]
key_usage = ["digitalSignature", "keyAgreement"]
validity = "365d"
renewal_window = "30d"
authentication = ["ta", "secret"]
policies = ["1.3.6.1.4.1.32473.1"]
crl_urls = ["http://pki.example.com/i.crl"]
"#;

fn mistakes(text: &str) -> Vec<String> {
    Profiles::parse(text)
        .unwrap_err()
        .mistakes
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// One change to the good file must give one mistake at that place with that word in it.
fn change(from: &str, to: &str, at: (usize, usize), word: &str) {
    let text = GOOD.replacen(from, to, 1);
    assert_ne!(text, GOOD, "{from} is not in the file");
    let e = Profiles::parse(&text).unwrap_err();
    assert_eq!(e.mistakes.len(), 1, "{e}");
    let m = &e.mistakes[0];
    assert_eq!((m.line, m.column), at, "{e}");
    assert!(e.to_string().contains(word), "{e} lacks {word}");
}

fn device() -> Identity {
    let mut id = Identity::new(Ueid::from_random([7; 16]));
    id.serial = Some("S-1".into());
    id.model = Some("門番".into());
    id
}

#[test]
fn the_good_file_is_read_whole() {
    let profiles = Profiles::parse(GOOD).unwrap();
    let p = profiles.find("idevid").unwrap();
    assert_eq!(p.description, "製造時のデバイス証明書");
    assert_eq!(p.key_algs, [KeyAlg::P256, KeyAlg::P384, KeyAlg::Ed25519]);
    assert_eq!(p.subject.len(), 4);
    assert_eq!(p.subject[2].1.expand(&device()).unwrap(), "門番 S-1");
    assert_eq!(p.validity, Validity::Indefinite);
    assert!(p.implicit_confirm && p.san.hardware_module_type.is_some());
    assert_eq!(p.extended_key_usage.len(), 2);
    let m = profiles.find("modem").unwrap();
    assert_eq!(m.renewal_window_secs, 30 * 86_400);
    assert_eq!(m.validity, Validity::Secs(365 * 86_400));
    assert!(!m.implicit_confirm);
    assert_eq!(p.authentication, [Authentication::Ta]);
    assert!(m.allows(Authentication::Secret) && !m.allows(Authentication::Certificate));
    assert_eq!(
        m.subject[0].1.expand(&device()),
        Err(EnrolmentError::MissingIdentity(IdentityAttribute::Imei))
    );
    assert_eq!(profiles.iter().count(), 2);
}

#[test]
fn each_mistake_is_told_with_its_place() {
    change("{ CN = \"{model}", "{ CM = \"{model}", (5, 48), "\"CN\"");
    change(
        "{model} {serial}",
        "{modle} {serial}",
        (5, 53),
        "did you mean \"model\"",
    );
    change(
        "{model} {serial}",
        "{model {serial}",
        (5, 53),
        "no identity attribute",
    );
    change("{model} {serial}", "model} {serial}", (5, 53), "brace");
    change(
        "\"P-256\", \"P-384\"",
        "\"P-265\", \"P-384\"",
        (4, 19),
        "P-256",
    );
    change(
        "\"P-384\", \"Ed25519\"",
        "\"P-256\", \"Ed25519\"",
        (4, 28),
        "twice",
    );
    change("C = \"JP\"", "C = \"Japan\"", (5, 18), "RFC 5280 allows 2");
    change("C = \"JP\"", "C = \"jp\"", (5, 18), "two capital letters");
    change(
        "validity = \"365d\"",
        "validity = \"one year\"",
        (21, 12),
        "365d",
    );
    change(
        "validity = \"365d\"",
        "validity = \"20d\"",
        (22, 18),
        "shorter",
    );
    change("renewal_window = \"30d\"\n", "", (16, 1), "renewal_window");
    change(
        "validity = \"indefinite\"",
        "validity = \"indefinite\"\nrenewal_window = \"1d\"",
        (9, 18),
        "Remove",
    );
    change("require = [\"imei\"]\n", "", (18, 19), "Add \"imei\"");
    change(
        "[\"imei\"]",
        "[\"imei\", \"imsi\"]",
        (19, 20),
        "did you mean \"imei\"",
    );
    change(
        "\"clientAuth\"",
        "\"clientauth\"",
        (7, 23),
        "did you mean \"clientAuth\"",
    );
    change(
        "implicit_confirm",
        "implicit_confrm",
        (9, 1),
        "did you mean \"implicit_confirm\"",
    );
    change("http://pki", "ftp://pki", (25, 13), "web address");
    change("urn:dev:", "", (14, 8), "scheme");
    change("[profile.modem]", "[profile.Modem]", (16, 10), "lower-case");
    change(
        "\"secret\"]",
        "\"secrets\"]",
        (23, 25),
        "did you mean \"secret\"",
    );
    change(
        "authentication = [\"ta\", \"secret\"]",
        "authentication = [\"ta\", \"secret\"]\napproval = \"operator\"",
        (24, 12),
        "no TA polls",
    );
    change(
        "authentication = [\"ta\", \"secret\"]",
        "authentication = [\"secret\"]\napproval = \"operater\"",
        (24, 12),
        "did you mean \"operator\"",
    );
    change("[\"ta\", \"secret\"]", "[]", (23, 18), "nobody");
    change("32473.1\"", "x\"", (12, 24), "object identifier");
    change(
        "[\"digitalSignature\"]",
        "[\"keyAgreement\"]",
        (6, 14),
        "Ed25519",
    );
    change(
        "[\"digitalSignature\"]",
        "[\"keyCertSign\"]",
        (6, 14),
        "for devices",
    );
    change("[\"digitalSignature\"]", "[]", (6, 13), "no key usage");
    change("手形工業", "手形\u{202e}工業", (5, 32), "U+202E");
    change(
        "{ C = \"JP\" }, {",
        "{ C = \"JP\", ",
        (5, 12),
        "exactly one",
    );
}

#[test]
fn several_mistakes_are_told_at_once_in_order() {
    let text = GOOD
        .replace("\"P-384\"", "\"P-999\"")
        .replace("\"365d\"", "\"?\"");
    let found = mistakes(&text);
    assert_eq!(found.len(), 2);
    assert!(found[0].starts_with("line 4, column 28"));
    assert!(found[1].starts_with("line 21, column 12"));
}

#[test]
fn broken_toml_and_empty_files_have_a_place_too() {
    assert!(mistakes("[profile.x\n")[0].starts_with("line 1,"));
    assert!(!mistakes("").is_empty());
    assert!(!mistakes("[profile]\n").is_empty());
    assert!(mistakes("[profile.x]\nsubject = 3\n")[0].starts_with("line 2, column 11"));
}

#[test]
fn nobody_named_is_refused() {
    let text = "[profile.x]\nkey_algorithms = [\"P-256\"]\nsubject = []\nkey_usage = [\"digitalSignature\"]\nvalidity = \"indefinite\"\n";
    assert!(
        mistakes(text)[0].contains("names nobody") || mistakes(text)[0].contains("name nobody")
    );
}

#[test]
fn a_procedure_says_what_the_profile_says() {
    let profiles = Profiles::parse(GOOD).unwrap();
    let p = profiles.find("idevid").unwrap();
    let modem = profiles.find("modem").unwrap();
    let details = ProcedureDetails {
        release_name: "enrol".into(),
        protocol_profile: ProtocolProfile::Default,
        trust_anchors: vec![],
    };
    let both = details.procedure([p, modem]);
    assert_eq!(both.certificate("modem"), Some(&modem.to_order()));
    let procedure = both.certificate("idevid").unwrap();
    assert!(p.agrees_with(procedure));
    assert!(!modem.agrees_with(procedure));
    assert_eq!(procedure.cmp_path, "/.well-known/cmp/p/idevid");
    assert_eq!(procedure.key_usage, 1);
    assert_eq!(procedure.validity_secs, None);
    let name = procedure.subject(&device()).unwrap().to_display();
    assert_eq!(
        name,
        "C=JP, O=手形工業株式会社, CN=門番 S-1, serialNumber=S-1"
    );
    assert_eq!(procedure.san(&device()).unwrap().len(), 3);
    let mut changed = p.clone();
    changed.extended_key_usage.clear();
    assert!(!changed.agrees_with(procedure));
}

#[test]
fn the_example_is_good() {
    assert!(Profiles::parse(EXAMPLE).unwrap().find("device").is_some());
}
