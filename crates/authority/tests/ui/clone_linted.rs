use tegata_authority::ca::issue::LintedTbs;

fn copy(linted: &LintedTbs) -> LintedTbs {
    linted.clone()
}

fn main() {
    let _ = LintedTbs {};
}
