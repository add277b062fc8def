use tegata_authority::ca::cmp::Authenticated;

fn copy(proof: &Authenticated) -> Authenticated {
    proof.clone()
}

fn main() {
    let _ = Authenticated {};
}
