use tegata_wire::rats::eat::DebugStatus;

use super::*;

#[test]
fn the_example_policy_is_good() {
    let policy = AppraisalPolicy::parse(EXAMPLE).unwrap();
    assert_eq!(policy.min_security_level, SecurityLevel::Software);
    assert_eq!(policy.min_debug_status, DebugStatus::Enabled);
    assert_eq!((policy.max_age_secs, policy.result_secs), (300, 300));
    assert!(
        policy
            .runtimes
            .iter()
            .any(|(name, versions)| name == "tegata-teed" && versions.is_none())
    );
}

#[test]
fn policy_mistakes_have_their_place() {
    let cases = [
        (
            "min_security_level = \"software\"",
            "min_security_level = \"softwear\"",
            "did you mean \"software\"",
        ),
        (
            "min_debug_status = \"enabled\"",
            "min_debug_status = \"off\"",
            "One of",
        ),
        ("max_age = \"5m\"", "max_age = \"soon\"", "span of time"),
        (
            "accept_unknown_tas = false",
            "accept_unknown_ta = false",
            "did you mean \"accept_unknown_tas\"",
        ),
        ("id = \"tegata-default-1\"", "id = \"\"", "id is empty"),
    ];
    for (from, to, word) in cases {
        let text = EXAMPLE.replacen(from, to, 1);
        assert_ne!(text, EXAMPLE);
        let e = AppraisalPolicy::parse(&text).unwrap_err();
        let line = 1 + text.lines().position(|l| l == to).unwrap();
        assert_eq!(e.mistakes[0].line, line, "{e}");
        assert!(e.to_string().contains(word), "{e}");
    }
    let line = EXAMPLE.lines().find(|l| l.starts_with("runtimes")).unwrap();
    let none = EXAMPLE.replace(line, "runtimes = []");
    assert!(
        AppraisalPolicy::parse(&none)
            .unwrap_err()
            .to_string()
            .contains("no runtime")
    );
}

#[test]
fn levels_are_ordered_and_unknown_ones_are_none() {
    let level = |name| SecurityLevel::from_name(name);
    assert!(level("software") < level("software-tpm"));
    assert!(level("software-se") < level("optee"));
    assert_eq!(level("magic"), None);
}

#[test]
fn requests_survive_and_every_cut_is_refused() {
    let request = AppraisalRequest {
        evidence: b"evidence".to_vec(),
        nonce: vec![1; 32],
        media_type: Some("application/eat+cwt".into()),
    };
    let bytes = request.encode().unwrap();
    assert_eq!(AppraisalRequest::decode(&bytes).unwrap(), request);
    for cut in 0..bytes.len() {
        assert!(AppraisalRequest::decode(&bytes[..cut]).is_err());
    }
    let short = AppraisalRequest {
        nonce: vec![1; 7],
        ..request
    };
    assert!(AppraisalRequest::decode(&short.encode().unwrap()).is_err());
}
