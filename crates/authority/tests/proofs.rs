//! A proof cannot be made, copied or used twice: each file in `ui` must fail to compile.

#[test]
fn proofs_cannot_be_forged_or_reused() {
    let t = trybuild::TestCases::new();
    t.compile_fail("tests/ui/*.rs");
}
