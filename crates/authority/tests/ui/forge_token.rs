use tegata_authority::ca::issue::IssuanceToken;

fn main() {
    let _ = IssuanceToken {};
}
