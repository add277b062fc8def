use tegata_authority::ca::delivery::DeliveryAsked;

fn main() {
    let _ = DeliveryAsked {};
    let _ = DeliveryAsked::default();
}
