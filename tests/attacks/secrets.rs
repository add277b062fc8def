//! Line 7: known secrets, looked for in everything that leaves where they belong.

use base64ct::{Base64, Base64Unpadded, Base64Url, Base64UrlUnpadded, Encoding as _};
use tegata_crypto::device_keys::{delivery_kek, software_derive};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::suit::{DeliveryKeys, open_payload};
use tegata_wire::ids::TaUuid;

use crate::enrolment::break_open;
use crate::rig::{ALICE, Device, SEALING_KEY, World, enrol_module, ta};
use crate::suite::Tried;

/// Secrets by name, in every spelling they could leak in.
#[derive(Default)]
pub struct Wanted(Vec<(String, Vec<u8>)>);

impl Wanted {
    /// Adds a secret: raw, hexadecimal in both cases, base64 in its variants at each alignment,
    /// and as a list of numbers.
    pub fn add(&mut self, name: &str, secret: &[u8]) {
        assert!(
            secret.len() >= 16,
            "{name} is too short to be told from chance"
        );
        let mut spell = |how: &str, bytes: Vec<u8>| self.0.push((format!("{name} ({how})"), bytes));
        spell("raw", secret.to_vec());
        spell("hex", hex::encode(secret).into_bytes());
        spell("HEX", hex::encode_upper(secret).into_bytes());
        let spaced: Vec<String> = secret.iter().map(|b| format!("{b:02x}")).collect();
        spell("hex:", spaced.join(":").into_bytes());
        spell("hex ", spaced.join(" ").into_bytes());
        let numbers: Vec<String> = secret.iter().map(u8::to_string).collect();
        spell("numbers", numbers.join(", ").into_bytes());
        spell("json", numbers.join(",").into_bytes());
        for skip in 0..3 {
            let part = &secret[skip..];
            let part = &part[..part.len() / 3 * 3];
            for text in [
                Base64::encode_string(part),
                Base64Unpadded::encode_string(part),
                Base64Url::encode_string(part),
                Base64UrlUnpadded::encode_string(part),
            ] {
                spell("base64", text.into_bytes());
            }
        }
    }

    /// Names of what is found in `bytes`.
    pub fn find(&self, bytes: &[u8]) -> Option<&str> {
        // Aho-Corasick would be faster; this looks at first bytes and is fast enough.
        let mut starts = [false; 1 << 16];
        for (_, needle) in &self.0 {
            starts[usize::from(u16::from_be_bytes([needle[0], needle[1]]))] = true;
        }
        for at in 0..bytes.len().saturating_sub(15) {
            if !starts[usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))] {
                continue;
            }
            let here = &bytes[at..];
            if let Some((name, _)) = self.0.iter().find(|(_, needle)| here.starts_with(needle)) {
                return Some(name);
            }
        }
        None
    }

    #[track_caller]
    pub fn absent(&self, bytes: &[u8], place: &str) {
        if let Some(name) = self.find(bytes) {
            panic!("{name} is in {place}");
        }
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// What only one device may know: its root, what derives from it, and what was delivered to it.
pub fn of_device(device: &Device, ta: &TaUuid, wanted: &mut Wanted) {
    let root = &device.machine.tee_key;
    wanted.add("TeeKey", root.expose_secret());
    let derive = |label: &str, context: &[u8]| software_derive(&RustCrypto, root, label, context);
    wanted.add(
        "delivery KEK",
        delivery_kek(&derive).unwrap().expose_secret(),
    );
    device.tee.with(|tee| {
        let keys = tee.keys();
        wanted.add("TEEP key", keys.teep.expose_scalar_bytes().expose_secret());
        wanted.add(
            "attestation key",
            keys.attestation.expose_scalar_bytes().expose_secret(),
        );
        wanted.add(
            "delivery key",
            keys.delivery_ecdh.expose_scalar_bytes().expose_secret(),
        );
    });
    wanted.add("CsrAuthKey", &break_open(device, ta).key);
    for (number, draw) in device.machine.key_sized_draws().iter().enumerate() {
        wanted.add(&format!("key-sized random value {number}"), draw);
    }
}

/// One whole run; then every message, every stored byte, every error and every `Debug`.
pub fn everything_is_searched() -> Tried {
    let world = World::new(71);
    let cut = world.release("enrol", enrol_module(), false);
    let device = world.device();
    let ta = cut.ta;
    let mut seen: Vec<(String, Vec<u8>)> = Vec::new();
    let mut note = |what: &str, bytes: &[u8]| seen.push((what.to_owned(), bytes.to_vec()));
    note("the release package", &cut.package);
    device.tee.with(|tee| tee.request_ta(&ta)).unwrap();
    let query = world.teep_message(b"");
    note("QueryRequest", &query);
    let response = device.teep(&query).unwrap();
    note("QueryResponse", &response);
    let update = world.teep_message(&response);
    note("Update", &update);
    let success = device.teep(&update).unwrap();
    note("Success", &success);
    note(
        "the TAM's outcome",
        format!("{:?}", world.teep(&success)).as_bytes(),
    );
    let session = device.open(&ta, ALICE);
    let request = session.call(ta::BEGIN, &[b"web"]).unwrap();
    note("p10cr", &request);
    let (cp, outcome) = world.cmp(&request);
    note("cp", &cp);
    note("the CA's outcome", format!("{outcome:?}").as_bytes());
    // Errors on the way, in words.
    for at in [0, 10, 300] {
        let (bytes, outcome) = world.cmp(&crate::rig::flipped(&request, at));
        note("a CMP error", &bytes);
        note("a CMP denial", format!("{outcome:?}").as_bytes());
        let _ = session.call(ta::FINISH, &[b"web", &crate::rig::flipped(&cp, at)]);
        let reply = device.teep(&crate::rig::flipped(&update, at)).unwrap();
        note("a TEEP error", &reply);
        note(
            "a TAM fault",
            format!("{:?}", world.teep(&crate::rig::flipped(&response, at))).as_bytes(),
        );
    }
    let conf = session.call(ta::FINISH, &[b"web", &cp]).unwrap();
    note("certConf", &conf);
    let (pki_conf, _) = world.cmp(&conf);
    note("pkiConf", &pki_conf);
    session.call(ta::CONFIRM, &[b"web", &pki_conf]).unwrap();
    for command in [
        ta::SIGN,
        ta::GET_PUBLIC_KEY,
        ta::STATUS,
        ta::LIST,
        ta::GET_CERTIFICATE,
    ] {
        let out = session
            .call(command, &[b"web", &[7; 32]])
            .unwrap_or_default();
        note("an answer of the TA", &out);
    }
    for (name, blob) in device.storage() {
        note(&format!("blob {name}"), &blob);
    }
    note(
        "the TEE's log",
        device.log.lock().unwrap().join("\n").as_bytes(),
    );
    // What prints itself.
    device.tee.with(|tee| {
        note(
            "Debug of device keys",
            format!("{:?}", tee.keys().delivery_kek).as_bytes(),
        );
        note(
            "Debug of a device key",
            format!("{:?}", tee.keys().teep).as_bytes(),
        );
        note(
            "Debug of events",
            format!("{:?}", tee.last_teep_event()).as_bytes(),
        );
        note("evidence", &tee.evidence(&[9; 32]).unwrap());
    });
    note(
        "Debug of the TAM's key",
        format!("{:?}", world.tam_key()).as_bytes(),
    );
    // Stores of the servers: secrets there are sealed. The CA's own are the CA's.
    for role in ["ca", "tam", "verifier"] {
        for end in ["", "-wal"] {
            let path = world.dir.path().join(format!("{role}.db{end}"));
            if let Ok(bytes) = std::fs::read(&path) {
                note(&format!("{role}.db{end}"), &bytes);
            }
        }
    }
    let mut wanted = Wanted::default();
    of_device(&device, &ta, &mut wanted);
    wanted.add(
        "the TAM's key",
        world.tam_key().expose_scalar_bytes().expose_secret(),
    );
    wanted.add("the sealing key", &SEALING_KEY);
    wanted.add(
        "the factory's key",
        world.factory.expose_scalar_bytes().expose_secret(),
    );
    assert!(
        wanted.len() > 100 && seen.len() > 30,
        "{} {}",
        wanted.len(),
        seen.len()
    );
    for (place, bytes) in &seen {
        wanted.absent(bytes, place);
    }
    // The search finds what is there.
    let planted = [
        b"log line: ".as_slice(),
        hex::encode(device.machine.tee_key.expose_secret()).as_bytes(),
    ]
    .concat();
    assert!(wanted.find(&planted).is_some());
    Tried::Times(seen.len() * wanted.len())
}

/// The insider of the TAM in the default profile: all its keys and stores, and no TA or key.
pub fn insider_reads_its_own_store() -> Tried {
    let world = World::new(72);
    let module: Vec<u8> = [
        b"\0asm\x01\0\0\0".as_slice(),
        b"secret procedure text ".repeat(40).as_slice(),
    ]
    .concat();
    let cut = world.release("enrol", &module, false);
    let device = world.device();
    let update = device.update_from(&world, &cut.ta);
    device.teep(&update).unwrap();
    let config = device.config(&cut.ta);
    let data = tegata_wire::enrolment::PersonalizationData::decode(&config).unwrap();
    let mut wanted = Wanted::default();
    wanted.add("CsrAuthKey", data.expose_csr_auth_key());
    wanted.add("the TA", &module[8..200]);
    let mut rows = Vec::new();
    crate::rig::dump(&world.dir.path().join("tam.db"), &mut rows);
    wanted.absent(&rows, "the TAM's store");
    wanted.absent(&update, "the Update");
    // Nor does any key of the TAM open what it carries.
    let exchange = world.tam.role().open_key("tam exchange key").unwrap();
    let signing = world.tam_key();
    let mut tried = 2;
    for key in [&exchange, &signing] {
        let keys = DeliveryKeys {
            ecdh: Some(key),
            ..DeliveryKeys::default()
        };
        for (info, ciphertext) in crate::delivery::payloads_of(&world, &update) {
            assert!(open_payload(&RustCrypto, &info, &ciphertext, keys).is_err());
            tried += 1;
        }
    }
    Tried::Times(tried)
}
