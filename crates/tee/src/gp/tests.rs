//! Every API function: success, each return code, each programmer error that must panic the TA.
//!
//! The functions are called as the imports call them, over a memory of plain bytes and a TEE in a
//! map. The calls of a real Wasm module are in `tests/`.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use tegata_wire::ids::{SignerId, TaUuid};
use zeroize::Zeroizing;

use super::consts::*;
use super::fail::{Fail, Res};
use super::host::*;
use super::mem::{Mem, swap_uuid};
use super::params::{ParamOut, Params, ParamsOut};
use super::property::TaProperties;
use super::state::{Ctx, GpState};
use super::*;
use crate::session::launch::ClientIdentity;
use crate::storage::TaId;

/// A TEE in a map.
#[derive(Default)]
struct Fake {
    objects: BTreeMap<Vec<u8>, Vec<u8>>,
    open: BTreeMap<ObjectToken, Vec<u8>>,
    next: u64,
    now_ms: u64,
    ree_ms: u64,
    clock: Option<PersistentTime>,
    clock_damaged: bool,
    cancel: bool,
    full: bool,
}

impl HostServices for Fake {
    fn info(&mut self) -> Result<TeeInfo, HostError> {
        Ok(info())
    }
    fn random(&mut self, out: &mut [u8]) -> Result<(), HostError> {
        for byte in out {
            self.next = self
                .next
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            *byte = self.next.to_be_bytes()[1];
        }
        Ok(())
    }
    fn system_time_ms(&mut self) -> Result<u64, HostError> {
        Ok(self.now_ms)
    }
    fn ree_time_ms(&mut self) -> Result<u64, HostError> {
        Ok(self.ree_ms)
    }
    fn position(&mut self) -> Result<crate::position::Position, HostError> {
        Err(HostError::NoData)
    }
    fn persistent_time(&mut self) -> Result<Option<PersistentTime>, HostError> {
        if self.clock_damaged {
            return Err(HostError::CorruptObject);
        }
        // Each question finds the REE clock an hour earlier than the last setting if it is 0.
        Ok(self.clock)
    }
    fn set_persistent_time(&mut self, time: PersistentTime) -> Result<(), HostError> {
        self.clock = Some(time);
        Ok(())
    }
    fn poll(&mut self) -> CallSignal {
        CallSignal {
            cancel: self.cancel,
            stop: false,
        }
    }
    fn idle(&mut self, ms: u32) {
        self.now_ms += u64::from(ms);
        self.cancel |= self.now_ms > 500;
    }
    fn object_open(&mut self, id: &[u8], _: u32) -> Result<(ObjectToken, Vec<u8>), HostError> {
        let content = self
            .objects
            .get(id)
            .cloned()
            .ok_or(HostError::ItemNotFound)?;
        self.next += 1;
        let token = ObjectToken(self.next);
        self.open.insert(token, id.to_vec());
        Ok((token, content))
    }
    fn object_create(&mut self, id: &[u8], f: u32, c: &[u8]) -> Result<ObjectToken, HostError> {
        if self.full {
            return Err(HostError::StorageNoSpace);
        }
        if self.objects.contains_key(id) && f & TEE_DATA_FLAG_OVERWRITE == 0 {
            return Err(HostError::AccessConflict);
        }
        self.objects.insert(id.to_vec(), c.to_vec());
        self.object_open(id, f).map(|(token, _)| token)
    }
    fn object_read(&mut self, token: ObjectToken) -> Result<Vec<u8>, HostError> {
        let id = self.open.get(&token).ok_or(HostError::BadParameters)?;
        self.objects.get(id).cloned().ok_or(HostError::ItemNotFound)
    }
    fn object_write(&mut self, token: ObjectToken, content: &[u8]) -> Result<(), HostError> {
        let id = self.open.get(&token).ok_or(HostError::BadParameters)?;
        if self.full {
            return Err(HostError::StorageNoSpace);
        }
        self.objects.insert(id.clone(), content.to_vec());
        Ok(())
    }
    fn object_rename(&mut self, token: ObjectToken, new_id: &[u8]) -> Result<(), HostError> {
        if self.objects.contains_key(new_id) {
            return Err(HostError::AccessConflict);
        }
        let id = self.open.get(&token).ok_or(HostError::BadParameters)?;
        let content = self.objects.remove(id).ok_or(HostError::ItemNotFound)?;
        self.objects.insert(new_id.to_vec(), content);
        self.open.insert(token, new_id.to_vec());
        Ok(())
    }
    fn object_delete(&mut self, token: ObjectToken) -> Result<(), HostError> {
        let id = self.open.remove(&token).ok_or(HostError::BadParameters)?;
        self.objects
            .remove(&id)
            .map(drop)
            .ok_or(HostError::ItemNotFound)
    }
    fn object_close(&mut self, token: ObjectToken) {
        self.open.remove(&token);
    }
    fn object_list(&mut self) -> Result<Vec<Vec<u8>>, HostError> {
        Ok(self.objects.keys().cloned().collect())
    }
    fn component(&mut self, kind: ComponentKind) -> Result<Option<Zeroizing<Vec<u8>>>, HostError> {
        Ok((kind == ComponentKind::Procedure).then(|| Zeroizing::new(b"procedure".to_vec())))
    }
    fn ta_unique_key(&mut self, context: &[u8]) -> Result<Zeroizing<[u8; 32]>, HostError> {
        Ok(Zeroizing::new([context.len().to_be_bytes()[7]; 32]))
    }
    fn evidence(&mut self, nonce: &[u8]) -> Result<Vec<u8>, HostError> {
        Ok([b"evidence ", nonce].concat())
    }
    fn ta_open(&mut self, d: [u8; 16], _: u32, _: Params) -> Result<TaReply, HostError> {
        let code = if d == [9; 16] {
            TEE_SUCCESS
        } else {
            TEE_ERROR_ITEM_NOT_FOUND
        };
        let params = ParamsOut::default();
        Ok(TaReply {
            code,
            origin: TEE_ORIGIN_TEE,
            session: 5,
            params,
        })
    }
    fn ta_invoke(&mut self, session: u32, _: u32, c: u32, _: Params) -> Result<TaReply, HostError> {
        let mut params = ParamsOut::default();
        params[0] = ParamOut::Value { a: session, b: c };
        Ok(TaReply {
            code: TEE_SUCCESS,
            origin: TEE_ORIGIN_TRUSTED_APP,
            session: 0,
            params,
        })
    }
    fn ta_close(&mut self, _: u32) {}
    fn log(&mut self, _: &str) {}
}

fn info() -> TeeInfo {
    TeeInfo {
        device_id: [1; 16],
        ueid: vec![1; 17],
        serial: "SN-1".to_string(),
        hwmodel: b"m".to_vec(),
        hwversion: "1".to_string(),
        oem_pen: Some(32473),
        imei: None,
        mac: Some([2; 6]),
        security_level: "software".to_string(),
        anti_rollback_level: 0,
        version: "1".to_string(),
    }
}

/// A TA's memory and state. Addresses from 0x100 on are handed out and never reused.
struct Ta {
    memory: Vec<u8>,
    state: GpState,
    top: u32,
}

impl Ta {
    fn new() -> Self {
        Self::with(Fake::default())
    }

    fn with(fake: Fake) -> Self {
        let ta = TaId {
            signer: SignerId([1; 32]),
            uuid: TaUuid([2; 16]),
        };
        let properties = TaProperties::parse(b"gpd.ta.version = 7\norg.example.x = 12\n").unwrap();
        let mut state = GpState::new(Box::new(fake), ta, properties, info());
        state.begin(Some(ClientIdentity::user(5)));
        Self {
            memory: vec![0; 1 << 16],
            state,
            top: 0x100,
        }
    }

    fn run<R>(&mut self, body: impl FnOnce(&mut Ctx<'_>) -> Res<R>) -> Res<R> {
        body(&mut Ctx {
            mem: Mem(&mut self.memory),
            st: &mut self.state,
        })
    }

    fn put(&mut self, bytes: &[u8]) -> u32 {
        let at = self.top;
        self.top += u32::try_from(bytes.len().next_multiple_of(8)).unwrap() + 8;
        Mem(&mut self.memory).write(at, bytes).unwrap();
        at
    }

    fn room(&mut self, len: usize) -> u32 {
        self.put(&vec![0; len])
    }

    fn word(&mut self, at: u32) -> u32 {
        Mem(&mut self.memory).u32(at).unwrap()
    }

    /// A buffer with its size word: (buffer, size pointer).
    fn out(&mut self, len: u32) -> (u32, u32) {
        let buffer = self.room(usize::try_from(len).unwrap());
        (buffer, self.put(&len.to_le_bytes()))
    }

    fn read(&mut self, (buffer, size): (u32, u32)) -> Vec<u8> {
        let len = self.word(size);
        Mem(&mut self.memory).bytes(buffer, len).unwrap().to_vec()
    }

    fn handle(&mut self, make: impl FnOnce(&mut Ctx<'_>, u32) -> Res) -> Res<u32> {
        let place = self.room(4);
        self.run(|c| make(c, place))?;
        Ok(self.word(place))
    }

    fn attributes(&mut self, list: &[(u32, Attr<'_>)]) -> (u32, u32) {
        let mut bytes = Vec::new();
        for (id, attribute) in list {
            let (a, b) = match attribute {
                Attr::Bytes(value) => (self.put(value), u32::try_from(value.len()).unwrap()),
                Attr::Value(a) => (*a, 0),
            };
            for word in [*id, a, b] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
        }
        (self.put(&bytes), u32::try_from(list.len()).unwrap())
    }

    fn key(&mut self, kind: u32, bits: u32, list: &[(u32, Attr<'_>)]) -> Res<u32> {
        let object = self.handle(|c, out| object::allocate_transient_object(c, kind, bits, out))?;
        let (attrs, count) = self.attributes(list);
        self.run(|c| object::populate_transient_object(c, object, attrs, count))?;
        Ok(object)
    }

    fn secret(&mut self, kind: u32, value: &[u8]) -> u32 {
        let bits = u32::try_from(value.len() * 8).unwrap();
        self.key(kind, bits, &[(TEE_ATTR_SECRET_VALUE, Attr::Bytes(value))])
            .unwrap()
    }

    fn generate(&mut self, kind: u32, bits: u32, curve: Option<u32>) -> u32 {
        let object = self
            .handle(|c, out| object::allocate_transient_object(c, kind, bits, out))
            .unwrap();
        let list: Vec<_> = curve
            .into_iter()
            .map(|c| (TEE_ATTR_ECC_CURVE, Attr::Value(c)))
            .collect();
        let (attrs, count) = self.attributes(&list);
        self.run(|c| object::generate_key(c, object, bits, attrs, count))
            .unwrap();
        object
    }

    fn operation(&mut self, algorithm: u32, mode: u32, bits: u32) -> Res<u32> {
        self.handle(|c, out| operation::allocate_operation(c, out, algorithm, mode, bits))
    }

    fn keyed(&mut self, algorithm: u32, mode: u32, bits: u32, key: u32) -> u32 {
        let op = self.operation(algorithm, mode, bits).unwrap();
        self.run(|c| operation::set_operation_key(c, op, key))
            .unwrap();
        op
    }
}

enum Attr<'a> {
    Bytes(&'a [u8]),
    Value(u32),
}

fn code<T>(code: u32) -> Res<T> {
    Err(Fail::Code(code))
}

fn panics<T>(result: Res<T>) -> bool {
    matches!(result, Err(Fail::Panic(_)))
}

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[test]
fn the_sdk_has_the_same_constants() {
    assert_eq!(
        include_str!("consts.rs"),
        include_str!("../../../ta-sdk/src/consts.rs"),
        "copy crates/tee/src/gp/consts.rs over the SDK's"
    );
}

#[test]
fn memory_outside_of_the_tas_own_panics_it() {
    let mut ta = Ta::new();
    let op = ta.operation(TEE_ALG_SHA256, TEE_MODE_DIGEST, 0).unwrap();
    for (ptr, len) in [
        (0u32, 1u32),
        (0xFFFF, 2),
        (0x1_0000, 1),
        (u32::MAX, u32::MAX),
        (16, u32::MAX),
    ] {
        assert!(
            panics(ta.run(|c| symmetric::digest_update(c, op, ptr, len))),
            "{ptr:x}+{len:x}"
        );
        assert!(
            panics(ta.run(|c| time::generate_random(c, ptr, len))),
            "{ptr:x}+{len:x}"
        );
    }
    assert!(panics(ta.run(|c| operation::allocate_operation(
        c,
        0,
        TEE_ALG_SHA256,
        5,
        0
    ))));
}

#[test]
fn digests_match_and_their_states_follow_the_standard() {
    let mut ta = Ta::new();
    let abc = ta.put(b"abc");
    for (algorithm, expected) in [
        (
            TEE_ALG_SHA256,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        ),
        (
            TEE_ALG_SHA384,
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc2358baeca134c825a7",
        ),
    ] {
        let op = ta.operation(algorithm, TEE_MODE_DIGEST, 0).unwrap();
        ta.run(|c| symmetric::digest_update(c, op, abc, 1)).unwrap();
        let short = ta.out(4);
        let result = ta.run(|c| symmetric::digest_do_final(c, op, abc + 1, 2, short.0, short.1));
        assert_eq!(result, code(TEE_ERROR_SHORT_BUFFER));
        assert_eq!(ta.word(short.1), u32::try_from(expected.len() / 2).unwrap());
        let out = ta.out(64);
        ta.run(|c| symmetric::digest_do_final(c, op, abc + 1, 2, out.0, out.1))
            .unwrap();
        assert_eq!(ta.read(out), unhex(expected));
    }
    // In parts.
    let op = ta.operation(TEE_ALG_SHA256, TEE_MODE_DIGEST, 0).unwrap();
    ta.run(|c| symmetric::digest_update(c, op, abc, 3)).unwrap();
    let first = ta.out(20);
    ta.run(|c| symmetric::digest_extract(c, op, first.0, first.1))
        .unwrap();
    assert!(
        panics(ta.run(|c| symmetric::digest_update(c, op, abc, 3))),
        "no more input"
    );
    let rest = ta.out(20);
    ta.run(|c| symmetric::digest_extract(c, op, rest.0, rest.1))
        .unwrap();
    let (first, rest) = (ta.read(first), ta.read(rest));
    assert_eq!((first.len(), rest.len()), (20, 12));
    assert!(
        panics(ta.run(|c| symmetric::mac_update(c, op, abc, 3))),
        "not a MAC"
    );
}

/// RFC 4231 test case 2 has a 4-byte key, below GP's minimum; case 1's key is 20 bytes, too. Case
/// 6 is too long; so a key of 32 bytes against the crypto crate, and RFC 4493 for CMAC.
#[test]
fn macs_match_and_compare_in_both_ways() {
    use tegata_crypto::Provider;
    let mut ta = Ta::new();
    let message = ta.put(b"message");
    let key = ta.secret(TEE_TYPE_HMAC_SHA256, &[7; 32]);
    let op = ta.keyed(TEE_ALG_HMAC_SHA256, TEE_MODE_MAC, 256, key);
    assert!(
        panics(ta.run(|c| symmetric::mac_update(c, op, message, 1))),
        "before init"
    );
    ta.run(|c| symmetric::mac_init(c, op, 0, 0)).unwrap();
    ta.run(|c| symmetric::mac_update(c, op, message, 4))
        .unwrap();
    let out = ta.out(32);
    ta.run(|c| symmetric::mac_compute_final(c, op, message + 4, 3, out.0, out.1))
        .unwrap();
    let expected = tegata_crypto::rustcrypto::RustCrypto.hmac_sha256(&[7; 32], b"message");
    assert_eq!(ta.read(out), expected);
    ta.run(|c| symmetric::mac_init(c, op, 0, 0)).unwrap();
    ta.run(|c| symmetric::mac_compare_final(c, op, message, 7, out.0, 32))
        .unwrap();
    for (len, mac_len) in [(6, 32), (7, 31)] {
        ta.run(|c| symmetric::mac_init(c, op, 0, 0)).unwrap();
        let wrong = ta.run(|c| symmetric::mac_compare_final(c, op, message, len, out.0, mac_len));
        assert_eq!(wrong, code(TEE_ERROR_MAC_INVALID));
    }
    let key = ta.secret(TEE_TYPE_AES, &unhex("2b7e151628aed2a6abf7158809cf4f3c"));
    let op = ta.keyed(TEE_ALG_AES_CMAC, TEE_MODE_MAC, 128, key);
    ta.run(|c| symmetric::mac_init(c, op, 0, 0)).unwrap();
    let out = ta.out(16);
    ta.run(|c| symmetric::mac_compute_final(c, op, 0, 0, out.0, out.1))
        .unwrap();
    assert_eq!(ta.read(out), unhex("bb1d6929e95937287fa37d129b756746"));
}

/// NIST SP 800-38A sections F.2.1 and F.5.1.
#[test]
fn ciphers_match_nist_in_any_split() {
    let key = unhex("2b7e151628aed2a6abf7158809cf4f3c");
    let plain = unhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
    for (algorithm, iv, cipher) in [
        (
            TEE_ALG_AES_CBC_NOPAD,
            "000102030405060708090a0b0c0d0e0f",
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2",
        ),
        (
            TEE_ALG_AES_CTR,
            "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff",
        ),
    ] {
        for mode in [TEE_MODE_ENCRYPT, TEE_MODE_DECRYPT] {
            let (input, expected) = match mode {
                TEE_MODE_ENCRYPT => (plain.clone(), unhex(cipher)),
                _ => (unhex(cipher), plain.clone()),
            };
            for split in [0u32, 1, 15, 16, 17, 32] {
                let mut ta = Ta::new();
                let key = ta.secret(TEE_TYPE_AES, &key);
                let op = ta.keyed(algorithm, mode, 128, key);
                let (iv, src) = (ta.put(&unhex(iv)), ta.put(&input));
                assert!(panics(ta.run(|c| symmetric::cipher_init(c, op, iv, 15))));
                ta.run(|c| symmetric::cipher_init(c, op, iv, 16)).unwrap();
                let (a, b) = (ta.out(32), ta.out(32));
                ta.run(|c| symmetric::cipher_update(c, op, src, split, a.0, a.1))
                    .unwrap();
                let rest = 32 - split;
                ta.run(|c| symmetric::cipher_do_final(c, op, src + split, rest, b.0, b.1))
                    .unwrap();
                assert_eq!([ta.read(a), ta.read(b)].concat(), expected);
            }
        }
    }
    let mut ta = Ta::new();
    let key = ta.secret(TEE_TYPE_AES, &[1; 32]);
    let op = ta.keyed(TEE_ALG_AES_CBC_NOPAD, TEE_MODE_ENCRYPT, 256, key);
    let src = ta.put(&[0; 32]);
    let out = ta.out(8);
    assert!(panics(ta.run(|c| symmetric::cipher_update(
        c, op, src, 16, out.0, out.1
    ))));
    ta.run(|c| symmetric::cipher_init(c, op, src, 16)).unwrap();
    let short = ta.run(|c| symmetric::cipher_update(c, op, src, 16, out.0, out.1));
    assert_eq!(short, code(TEE_ERROR_SHORT_BUFFER));
    assert!(panics(ta.run(|c| symmetric::cipher_do_final(
        c, op, src, 15, out.0, out.1
    ))));
}

#[test]
fn authenticated_encryption_round_trips_and_refuses_what_was_changed() {
    for (algorithm, nonce_len, tag_bits) in [
        (TEE_ALG_AES_GCM, 12, 128),
        (TEE_ALG_AES_GCM, 12, 96),
        (TEE_ALG_AES_CCM, 13, 64),
    ] {
        let mut ta = Ta::new();
        let key = ta.secret(TEE_TYPE_AES, &[3; 16]);
        let seal = ta.keyed(algorithm, TEE_MODE_ENCRYPT, 128, key);
        let (nonce, aad, plain) = (ta.put(&[1; 13]), ta.put(b"aad"), ta.put(b"attack at dawn"));
        let bad = ta.run(|c| symmetric::ae_init(c, seal, nonce, 5, tag_bits, 3, 14));
        assert_eq!(bad, code(TEE_ERROR_NOT_SUPPORTED));
        let bad = ta.run(|c| symmetric::ae_init(c, seal, nonce, nonce_len, 24, 3, 14));
        assert_eq!(bad, code(TEE_ERROR_NOT_SUPPORTED));
        ta.run(|c| symmetric::ae_init(c, seal, nonce, nonce_len, tag_bits, 3, 14))
            .unwrap();
        ta.run(|c| symmetric::ae_update_aad(c, seal, aad, 3))
            .unwrap();
        let none = ta.out(16);
        ta.run(|c| symmetric::ae_update(c, seal, plain, 6, none.0, none.1))
            .unwrap();
        assert_eq!(ta.word(none.1), 0, "collected");
        let (out, tag) = (ta.out(14), ta.out(16));
        let small = ta.out(3);
        let short = ta.run(|c| {
            symmetric::ae_encrypt_final(c, seal, plain + 6, 8, small.0, small.1, tag.0, tag.1)
        });
        assert_eq!(
            (short, ta.word(small.1)),
            (code(TEE_ERROR_SHORT_BUFFER), 14)
        );
        let room = ta.put(&16u32.to_le_bytes());
        ta.run(|c| symmetric::ae_encrypt_final(c, seal, plain + 6, 8, out.0, out.1, tag.0, room))
            .unwrap();
        let tag_len = ta.word(room);
        assert_eq!(tag_len, tag_bits / 8);

        let open = ta.keyed(algorithm, TEE_MODE_DECRYPT, 128, key);
        for flip in [None, Some(out.0), Some(tag.0), Some(aad)] {
            if let Some(at) = flip {
                ta.memory[usize::try_from(at).unwrap()] ^= 1;
            }
            ta.run(|c| symmetric::ae_init(c, open, nonce, nonce_len, tag_bits, 3, 14))
                .unwrap();
            ta.run(|c| symmetric::ae_update_aad(c, open, aad, 3))
                .unwrap();
            let back = ta.out(14);
            let opened = ta.run(|c| {
                symmetric::ae_decrypt_final(c, open, out.0, 14, back.0, back.1, tag.0, tag_len)
            });
            match flip {
                None => {
                    opened.unwrap();
                    assert_eq!(ta.read(back), b"attack at dawn");
                }
                Some(at) => {
                    assert_eq!(opened, code(TEE_ERROR_MAC_INVALID));
                    assert_eq!(ta.read(back), [0; 14], "nothing before the tag is right");
                    ta.memory[usize::try_from(at).unwrap()] ^= 1;
                }
            }
        }
    }
}

#[test]
fn key_pairs_sign_verify_and_keep_their_secret() {
    for (kind, bits, curve, algorithm, len) in [
        (
            TEE_TYPE_ECDSA_KEYPAIR,
            256,
            Some(TEE_ECC_CURVE_NIST_P256),
            TEE_ALG_ECDSA_SHA256,
            64,
        ),
        (
            TEE_TYPE_ECDSA_KEYPAIR,
            384,
            Some(TEE_ECC_CURVE_NIST_P384),
            TEE_ALG_ECDSA_SHA384,
            96,
        ),
        (TEE_TYPE_ED25519_KEYPAIR, 256, None, TEE_ALG_ED25519, 64),
    ] {
        let mut ta = Ta::new();
        let pair = ta.generate(kind, bits, curve);
        let sign = ta.keyed(algorithm, TEE_MODE_SIGN, bits, pair);
        let digest_len = if algorithm == TEE_ALG_ECDSA_SHA384 {
            48
        } else {
            32
        };
        let digest = ta.put(&[5; 48]);
        let small = ta.out(8);
        let short = ta.run(|c| {
            asymmetric::asymmetric_sign_digest(c, sign, 0, 0, digest, digest_len, small.0, small.1)
        });
        assert_eq!(
            (short, ta.word(small.1)),
            (code(TEE_ERROR_SHORT_BUFFER), len)
        );
        let out = ta.out(96);
        ta.run(|c| {
            asymmetric::asymmetric_sign_digest(c, sign, 0, 0, digest, digest_len, out.0, out.1)
        })
        .unwrap();
        assert_eq!(ta.word(out.1), len);
        // The public half alone verifies.
        let public_kind = kind & !0x0100_0000;
        let public = ta
            .handle(|c, out| object::allocate_transient_object(c, public_kind, bits, out))
            .unwrap();
        ta.run(|c| object::copy_object_attributes1(c, public, pair))
            .unwrap();
        let verify = ta.keyed(algorithm, TEE_MODE_VERIFY, bits, public);
        let check = |ta: &mut Ta| {
            ta.run(|c| {
                asymmetric::asymmetric_verify_digest(
                    c, verify, 0, 0, digest, digest_len, out.0, len,
                )
            })
        };
        check(&mut ta).unwrap();
        ta.memory[usize::try_from(out.0).unwrap() + 3] ^= 1;
        assert_eq!(check(&mut ta), code(TEE_ERROR_SIGNATURE_INVALID));
        if algorithm != TEE_ALG_ED25519 {
            assert!(panics(ta.run(|c| {
                asymmetric::asymmetric_verify_digest(c, verify, 0, 0, digest, 20, out.0, len)
            })));
        }
        // A public key does not sign; a pair without the right does not either.
        let op = ta.operation(algorithm, TEE_MODE_SIGN, bits).unwrap();
        assert!(panics(
            ta.run(|c| operation::set_operation_key(c, op, public))
        ));
        ta.run(|c| object::restrict_object_usage1(c, pair, TEE_USAGE_VERIFY))
            .unwrap();
        assert!(panics(
            ta.run(|c| operation::set_operation_key(c, op, pair))
        ));
        let secret = match kind {
            TEE_TYPE_ED25519_KEYPAIR => TEE_ATTR_ED25519_PRIVATE_VALUE,
            _ => TEE_ATTR_ECC_PRIVATE_VALUE,
        };
        let out = ta.out(64);
        let read = ta.run(|c| object::get_object_buffer_attribute(c, pair, secret, out.0, out.1));
        assert_eq!(read, code(TEE_ERROR_ACCESS_DENIED));
    }
}

#[test]
fn objects_refuse_what_does_not_fit_them() {
    let mut ta = Ta::new();
    for (kind, bits) in [
        (TEE_TYPE_AES, 100),
        (TEE_TYPE_DATA, 0),
        (0xA000_0030, 2048),
        (1, 1),
    ] {
        let made = ta.handle(|c, out| object::allocate_transient_object(c, kind, bits, out));
        assert_eq!(made, code(TEE_ERROR_NOT_SUPPORTED));
    }
    // No attribute, a foreign one, one twice, one too large.
    let value = |v| (TEE_ATTR_SECRET_VALUE, Attr::Bytes(v));
    assert!(panics(ta.key(TEE_TYPE_AES, 128, &[])));
    assert!(panics(ta.key(
        TEE_TYPE_AES,
        128,
        &[(TEE_ATTR_ECC_CURVE, Attr::Value(3))]
    )));
    assert!(panics(ta.key(
        TEE_TYPE_AES,
        128,
        &[value(&[1; 16]), value(&[1; 16])]
    )));
    assert!(panics(ta.key(TEE_TYPE_AES, 128, &[value(&[1; 32])])));
    assert_eq!(
        ta.key(TEE_TYPE_AES, 256, &[value(&[1; 17])]),
        code(TEE_ERROR_BAD_PARAMETERS)
    );
    // A point that is not on its curve.
    let point = [
        (TEE_ATTR_ECC_PUBLIC_VALUE_X, Attr::Bytes(&[1; 32])),
        (TEE_ATTR_ECC_PUBLIC_VALUE_Y, Attr::Bytes(&[1; 32])),
        (TEE_ATTR_ECC_CURVE, Attr::Value(TEE_ECC_CURVE_NIST_P256)),
    ];
    let made = ta.key(TEE_TYPE_ECDSA_PUBLIC_KEY, 256, &point);
    assert_eq!(made, code(TEE_ERROR_BAD_PARAMETERS));

    let key = ta.secret(TEE_TYPE_AES, &[9; 16]);
    assert!(
        panics(ta.run(|c| object::populate_transient_object(c, key, 0, 0))),
        "twice"
    );
    let out = ta.out(4);
    let id = TEE_ATTR_SECRET_VALUE;
    let read = ta.run(|c| object::get_object_buffer_attribute(c, key, id, out.0, out.1));
    assert_eq!((read, ta.word(out.1)), (code(TEE_ERROR_SHORT_BUFFER), 16));
    let id = TEE_ATTR_ECC_PUBLIC_VALUE_X;
    let read = ta.run(|c| object::get_object_buffer_attribute(c, key, id, out.0, out.1));
    assert_eq!(read, code(TEE_ERROR_ITEM_NOT_FOUND));
    let a = ta.room(8);
    let read = ta.run(|c| object::get_object_value_attribute(c, key, TEE_ATTR_ECC_CURVE, a, a));
    assert_eq!(read, code(TEE_ERROR_ITEM_NOT_FOUND));
    let words = ta.room(28);
    ta.run(|c| object::get_object_info1(c, key, words)).unwrap();
    assert_eq!(ta.word(words + 4), 128);
    ta.run(|c| object::reset_transient_object(c, key)).unwrap();
    assert!(panics(ta.run(|c| object::get_object_buffer_attribute(
        c, key, id, out.0, out.1
    ))));
    ta.run(|c| object::free_transient_object(c, key)).unwrap();
    assert!(
        panics(ta.run(|c| object::free_transient_object(c, key))),
        "a dead handle"
    );
    ta.run(|c| object::close_object(c, TEE_HANDLE_NULL))
        .unwrap();
    // A pair on P-384 cannot have 256 bits.
    let object = ta
        .handle(|c, out| object::allocate_transient_object(c, TEE_TYPE_ECDSA_KEYPAIR, 256, out))
        .unwrap();
    let (attrs, count) = ta.attributes(&[(TEE_ATTR_ECC_CURVE, Attr::Value(4))]);
    let made = ta.run(|c| object::generate_key(c, object, 256, attrs, count));
    assert_eq!(made, code(TEE_ERROR_BAD_PARAMETERS));
    assert!(panics(
        ta.run(|c| object::generate_key(c, object, 384, attrs, count))
    ));
    assert!(
        panics(ta.run(|c| object::generate_key(c, object, 256, 0, 0))),
        "no curve"
    );
}

#[test]
fn shared_secrets_are_the_same_on_both_sides() {
    for (kind, curve, bits) in [
        (TEE_TYPE_ECDH_KEYPAIR, 3, 256),
        (TEE_TYPE_ECDH_KEYPAIR, 4, 384),
    ] {
        let mut ta = Ta::new();
        let pairs = [
            ta.generate(kind, bits, Some(curve)),
            ta.generate(kind, bits, Some(curve)),
        ];
        let mut secrets = Vec::new();
        for (own, peer) in [(0, 1), (1, 0)] {
            let mut point = Vec::new();
            for id in [TEE_ATTR_ECC_PUBLIC_VALUE_X, TEE_ATTR_ECC_PUBLIC_VALUE_Y] {
                let out = ta.out(48);
                ta.run(|c| object::get_object_buffer_attribute(c, pairs[peer], id, out.0, out.1))
                    .unwrap();
                point.push((id, ta.read(out)));
            }
            let op = ta.keyed(
                TEE_ALG_ECDH_DERIVE_SHARED_SECRET,
                TEE_MODE_DERIVE,
                bits,
                pairs[own],
            );
            let list: Vec<_> = point.iter().map(|(id, v)| (*id, Attr::Bytes(v))).collect();
            let (attrs, count) = ta.attributes(&list);
            let derived = ta
                .handle(|c, out| {
                    object::allocate_transient_object(c, TEE_TYPE_GENERIC_SECRET, bits, out)
                })
                .unwrap();
            ta.run(|c| asymmetric::derive_key(c, op, attrs, count, derived))
                .unwrap();
            let out = ta.out(48);
            let id = TEE_ATTR_SECRET_VALUE;
            ta.run(|c| object::get_object_buffer_attribute(c, derived, id, out.0, out.1))
                .unwrap();
            secrets.push(ta.read(out));
            // A second secret into the same object, or no point at all, are programmer errors.
            assert!(panics(
                ta.run(|c| asymmetric::derive_key(c, op, attrs, count, derived))
            ));
            assert!(
                ta.run(|c| asymmetric::derive_key(c, op, 0, 0, derived))
                    .is_err()
            );
        }
        assert_eq!(secrets[0], secrets[1]);
    }
}

/// RFC 7748 section 6.1: a peer of zeros contributes nothing. RFC 5869: test case 1.
#[test]
fn x25519_and_hkdf_match_their_rfcs() {
    let mut ta = Ta::new();
    let alice = ta.generate(TEE_TYPE_X25519_KEYPAIR, 256, None);
    let op = ta.keyed(TEE_ALG_X25519, TEE_MODE_DERIVE, 256, alice);
    let zeros = [0u8; 32];
    let (attrs, count) = ta.attributes(&[(TEE_ATTR_X25519_PUBLIC_VALUE, Attr::Bytes(&zeros))]);
    let derived = ta
        .handle(|c, out| object::allocate_transient_object(c, TEE_TYPE_GENERIC_SECRET, 256, out))
        .unwrap();
    assert!(panics(
        ta.run(|c| asymmetric::derive_key(c, op, attrs, count, derived))
    ));

    let key = ta.secret(TEE_TYPE_HKDF, &[0x0b; 22]);
    let op = ta.keyed(TEE_ALG_HKDF, TEE_MODE_DERIVE, 176, key);
    let (salt, label) = (
        unhex("000102030405060708090a0b0c"),
        unhex("f0f1f2f3f4f5f6f7f8f9"),
    );
    let (attrs, count) = ta.attributes(&[
        (TEE_ATTR_HKDF_SALT, Attr::Bytes(&salt)),
        (TEE_ATTR_HKDF_INFO, Attr::Bytes(&label)),
        (TEE_ATTR_HKDF_HASH_ALGORITHM, Attr::Value(TEE_ALG_SHA256)),
        (TEE_ATTR_KDF_KEY_SIZE, Attr::Value(42)),
    ]);
    let derived = ta
        .handle(|c, out| object::allocate_transient_object(c, TEE_TYPE_GENERIC_SECRET, 336, out))
        .unwrap();
    ta.run(|c| asymmetric::derive_key(c, op, attrs, count, derived))
        .unwrap();
    let out = ta.out(42);
    let id = TEE_ATTR_SECRET_VALUE;
    ta.run(|c| object::get_object_buffer_attribute(c, derived, id, out.0, out.1))
        .unwrap();
    let expected =
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865";
    assert_eq!(ta.read(out), unhex(expected));
}

#[test]
fn operations_keep_to_their_class_mode_and_state() {
    let mut ta = Ta::new();
    for (algorithm, mode, bits) in [
        (TEE_ALG_SHA256, TEE_MODE_MAC, 0),
        (TEE_ALG_AES_GCM, TEE_MODE_SIGN, 128),
        (TEE_ALG_AES_GCM, TEE_MODE_ENCRYPT, 100),
        (0x7000_4830, TEE_MODE_SIGN, 2048),
        (TEE_ALG_ILLEGAL_VALUE, 0, 0),
    ] {
        assert_eq!(
            ta.operation(algorithm, mode, bits),
            code(TEE_ERROR_NOT_SUPPORTED)
        );
    }
    let key = ta.secret(TEE_TYPE_HMAC_SHA256, &[1; 32]);
    let aes = ta.secret(TEE_TYPE_AES, &[1; 32]);
    let op = ta
        .operation(TEE_ALG_HMAC_SHA256, TEE_MODE_MAC, 256)
        .unwrap();
    assert!(
        panics(ta.run(|c| symmetric::mac_init(c, op, 0, 0))),
        "no key"
    );
    assert!(
        panics(ta.run(|c| operation::set_operation_key(c, op, aes))),
        "wrong type"
    );
    ta.run(|c| operation::set_operation_key(c, op, key))
        .unwrap();
    let other = ta
        .operation(TEE_ALG_HMAC_SHA256, TEE_MODE_MAC, 256)
        .unwrap();
    ta.run(|c| symmetric::mac_init(c, op, 0, 0)).unwrap();
    assert!(
        panics(ta.run(|c| operation::set_operation_key(c, op, key))),
        "not initial"
    );
    ta.run(|c| operation::copy_operation(c, other, op)).unwrap();
    let digest = ta.operation(TEE_ALG_SHA256, TEE_MODE_DIGEST, 0).unwrap();
    assert!(panics(ta.run(|c| operation::copy_operation(c, digest, op))));
    assert!(panics(
        ta.run(|c| operation::set_operation_key(c, digest, key))
    ));
    assert!(panics(
        ta.run(|c| operation::set_operation_key2(c, op, key, key))
    ));
    let words = ta.room(64);
    ta.run(|c| operation::get_operation_info(c, op, words))
        .unwrap();
    assert_eq!(ta.word(words + 12), 32);
    assert_eq!(ta.word(words + 24), TEE_USAGE_MAC);
    assert_eq!(
        ta.word(words + 28),
        TEE_HANDLE_FLAG_KEY_SET | TEE_HANDLE_FLAG_INITIALIZED
    );
    let size = ta.put(&8u32.to_le_bytes());
    let short = ta.run(|c| operation::get_operation_info_multiple(c, op, words, size));
    assert_eq!((short, ta.word(size)), (code(TEE_ERROR_SHORT_BUFFER), 40));
    ta.run(|c| operation::get_operation_info_multiple(c, op, words, size))
        .unwrap();
    assert_eq!(ta.word(words + 24), TEE_OPERATION_STATE_ACTIVE);
    ta.run(|c| operation::reset_operation(c, op)).unwrap();
    ta.run(|c| operation::set_operation_key(c, op, TEE_HANDLE_NULL))
        .unwrap();
    assert!(
        panics(ta.run(|c| operation::reset_operation(c, op))),
        "no key"
    );
    ta.run(|c| operation::free_operation(c, op)).unwrap();
    assert!(panics(
        ta.run(|c| operation::get_operation_info(c, op, words))
    ));
    let mut supported =
        |alg, element| ta.run(|c| operation::is_algorithm_supported(c, alg, element));
    assert_eq!(
        supported(TEE_ALG_ECDSA_SHA256, TEE_ECC_CURVE_NIST_P256),
        Ok(())
    );
    assert_eq!(supported(TEE_ALG_SHA256, TEE_CRYPTO_ELEMENT_NONE), Ok(()));
    assert_eq!(supported(TEE_ALG_ED25519, 3), code(TEE_ERROR_NOT_SUPPORTED));
    assert_eq!(supported(0x7000_4830, 0), code(TEE_ERROR_NOT_SUPPORTED));
}

#[test]
fn persistent_objects_keep_data_keys_and_rules() {
    let mut ta = Ta::new();
    let (id, data) = (ta.put(b"object"), ta.put(b"0123456789"));
    let all =
        TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_ACCESS_WRITE | TEE_DATA_FLAG_ACCESS_WRITE_META;
    let none = ta.handle(|c, o| persistent::open_persistent_object(c, 1, id, 6, all, o));
    assert_eq!(none, code(TEE_ERROR_ITEM_NOT_FOUND));
    let other = ta.handle(|c, o| persistent::open_persistent_object(c, 2, id, 6, all, o));
    assert_eq!(other, code(TEE_ERROR_ITEM_NOT_FOUND));
    assert!(panics(ta.handle(
        |c, o| persistent::open_persistent_object(c, 1, id, 65, all, o)
    )));
    let key = ta.secret(TEE_TYPE_AES, &[4; 16]);
    ta.run(|c| object::restrict_object_usage1(c, key, TEE_USAGE_ENCRYPT))
        .unwrap();
    let object = ta
        .handle(|c, o| persistent::create_persistent_object(c, 1, id, 6, all, key, data, 10, o))
        .unwrap();
    let again =
        ta.handle(|c, o| persistent::create_persistent_object(c, 1, id, 6, all, 0, data, 1, o));
    assert_eq!(again, code(TEE_ERROR_ACCESS_CONFLICT));
    let (buffer, count) = (ta.room(16), ta.room(4));
    ta.run(|c| persistent::read_object_data(c, object, buffer, 4, count))
        .unwrap();
    assert_eq!(ta.word(count), 4);
    ta.run(|c| persistent::seek_object_data(c, object, -2, TEE_DATA_SEEK_END))
        .unwrap();
    ta.run(|c| persistent::write_object_data(c, object, data, 4))
        .unwrap();
    ta.run(|c| persistent::seek_object_data(c, object, -99, TEE_DATA_SEEK_CUR))
        .unwrap();
    ta.run(|c| persistent::read_object_data(c, object, buffer, 16, count))
        .unwrap();
    assert_eq!(ta.word(count), 12);
    assert_eq!(
        Mem(&mut ta.memory).bytes(buffer, 12).unwrap(),
        b"012345670123"
    );
    ta.run(|c| persistent::truncate_object_data(c, object, 3))
        .unwrap();
    let end = ta.run(|c| persistent::seek_object_data(c, object, i32::MAX, TEE_DATA_SEEK_END));
    assert_eq!(end, Ok(()));
    let far = ta.run(|c| persistent::write_object_data(c, object, data, 4));
    assert_eq!(far, code(TEE_ERROR_STORAGE_NO_SPACE));
    assert!(panics(
        ta.run(|c| persistent::seek_object_data(c, object, 0, 7))
    ));
    let new = ta.put(b"renamed");
    ta.run(|c| persistent::rename_persistent_object(c, object, new, 7))
        .unwrap();
    ta.run(|c| object::close_object(c, object)).unwrap();

    // Opened again: the key with its restriction, the data, and only the rights asked for.
    let read = TEE_DATA_FLAG_ACCESS_READ;
    let object = ta
        .handle(|c, o| persistent::open_persistent_object(c, 1, new, 7, read, o))
        .unwrap();
    assert!(panics(
        ta.run(|c| persistent::write_object_data(c, object, data, 1))
    ));
    assert!(panics(ta.run(|c| persistent::rename_persistent_object(
        c, object, id, 6
    ))));
    assert!(panics(ta.run(|c| {
        persistent::close_and_delete_persistent_object1(c, object)
    })));
    let out = ta.out(16);
    let secret = ta.run(|c| {
        object::get_object_buffer_attribute(c, object, TEE_ATTR_SECRET_VALUE, out.0, out.1)
    });
    assert_eq!(secret, code(TEE_ERROR_ACCESS_DENIED));
    ta.keyed(TEE_ALG_AES_CTR, TEE_MODE_ENCRYPT, 128, object);
    let op = ta
        .operation(TEE_ALG_AES_CTR, TEE_MODE_DECRYPT, 128)
        .unwrap();
    assert!(panics(
        ta.run(|c| operation::set_operation_key(c, op, object))
    ));
    assert!(
        panics(ta.run(|c| object::free_transient_object(c, object))),
        "not transient"
    );

    // Enumeration.
    let e = ta.handle(persistent::allocate_enumerator).unwrap();
    let (info, name, len) = (ta.room(28), ta.room(64), ta.room(4));
    let next = ta.run(|c| persistent::get_next(c, e, info, name, len));
    assert_eq!(next, code(TEE_ERROR_ITEM_NOT_FOUND), "not started");
    ta.run(|c| persistent::start_enumerator(c, e, 1)).unwrap();
    ta.run(|c| persistent::get_next(c, e, info, name, len))
        .unwrap();
    assert_eq!((ta.word(info), ta.word(info + 16)), (TEE_TYPE_AES, 3));
    assert_eq!(Mem(&mut ta.memory).bytes(name, 7).unwrap(), b"renamed");
    let next = ta.run(|c| persistent::get_next(c, e, info, name, len));
    assert_eq!(next, code(TEE_ERROR_ITEM_NOT_FOUND), "at the end");
    ta.run(|c| object::close_object(c, object)).unwrap();
    let meta = TEE_DATA_FLAG_ACCESS_WRITE_META;
    let object = ta
        .handle(|c, o| persistent::open_persistent_object(c, 1, new, 7, meta, o))
        .unwrap();
    ta.run(|c| persistent::close_and_delete_persistent_object1(c, object))
        .unwrap();
    let empty = ta.run(|c| persistent::start_enumerator(c, e, 1));
    assert_eq!(empty, code(TEE_ERROR_ITEM_NOT_FOUND));
    ta.run(|c| persistent::reset_enumerator(c, e)).unwrap();
    ta.run(|c| persistent::free_enumerator(c, e)).unwrap();
}

#[test]
fn a_restriction_keeps_what_another_handle_stored() {
    let mut ta = Ta::new();
    let (id, data) = (ta.put(b"object"), ta.put(b"0123456789"));
    let flags = TEE_DATA_FLAG_ACCESS_READ
        | TEE_DATA_FLAG_ACCESS_WRITE
        | TEE_DATA_FLAG_SHARE_READ
        | TEE_DATA_FLAG_SHARE_WRITE;
    let key = ta.secret(TEE_TYPE_AES, &[4; 16]);
    let one = ta
        .handle(|c, o| persistent::create_persistent_object(c, 1, id, 6, flags, key, data, 4, o))
        .unwrap();
    let two = ta
        .handle(|c, o| persistent::open_persistent_object(c, 1, id, 6, flags, o))
        .unwrap();
    ta.run(|c| persistent::write_object_data(c, one, data, 10))
        .unwrap();
    let usage = TEE_USAGE_ENCRYPT | TEE_USAGE_DECRYPT;
    ta.run(|c| object::restrict_object_usage1(c, one, usage))
        .unwrap();
    // The second handle saw neither of both.
    let usage = TEE_USAGE_ENCRYPT | TEE_USAGE_MAC;
    ta.run(|c| object::restrict_object_usage1(c, two, usage))
        .unwrap();
    let fresh = ta
        .handle(|c, o| persistent::open_persistent_object(c, 1, id, 6, flags, o))
        .unwrap();
    let info = ta.room(28);
    for handle in [two, fresh] {
        ta.run(|c| object::get_object_info1(c, handle, info))
            .unwrap();
        assert_eq!(ta.word(info + 12), TEE_USAGE_ENCRYPT);
    }
    let (buffer, count) = (ta.room(16), ta.room(4));
    ta.run(|c| persistent::read_object_data(c, fresh, buffer, 16, count))
        .unwrap();
    assert_eq!(ta.word(count), 10);
}

#[test]
fn a_corrupt_object_is_deleted_and_a_full_store_says_so() {
    let mut fake = Fake::default();
    fake.objects
        .insert(b"bad".to_vec(), b"not an object".to_vec());
    fake.full = true;
    let mut ta = Ta::with(fake);
    let id = ta.put(b"bad");
    let open =
        |ta: &mut Ta| ta.handle(|c, o| persistent::open_persistent_object(c, 1, id, 3, 1, o));
    assert_eq!(open(&mut ta), code(TEE_ERROR_CORRUPT_OBJECT));
    assert_eq!(open(&mut ta), code(TEE_ERROR_ITEM_NOT_FOUND));
    let made = ta.handle(|c, o| persistent::create_persistent_object(c, 1, id, 3, 1, 0, 0, 0, o));
    assert_eq!(made, code(TEE_ERROR_STORAGE_NO_SPACE));
}

#[test]
fn properties_have_their_types_and_enumerate() {
    let mut ta = Ta::new();
    let name = |ta: &mut Ta, text: &str| ta.put(&[text.as_bytes(), &[0]].concat());
    let string = |ta: &mut Ta, set, text: &str| {
        let (n, out) = (name(ta, text), ta.out(80));
        ta.run(|c| property::as_string(c, set, n, out.0, out.1))?;
        let mut bytes = ta.read(out);
        assert_eq!(bytes.pop(), Some(0));
        Ok::<_, Fail>(String::from_utf8(bytes).unwrap())
    };
    let (own, client, tee) = (
        TEE_PROPSET_CURRENT_TA,
        TEE_PROPSET_CURRENT_CLIENT,
        TEE_PROPSET_TEE_IMPLEMENTATION,
    );
    assert_eq!(string(&mut ta, own, "gpd.ta.version").unwrap(), "7");
    assert_eq!(
        string(&mut ta, own, "gpd.ta.singleInstance").unwrap(),
        "false"
    );
    assert_eq!(string(&mut ta, tee, "dev.tegata.serial").unwrap(), "SN-1");
    let identity = string(&mut ta, client, "gpd.client.identity").unwrap();
    assert!(identity.starts_with("1:"), "{identity}");
    assert_eq!(
        string(&mut ta, tee, "no.such"),
        code(TEE_ERROR_ITEM_NOT_FOUND)
    );
    assert!(panics(string(&mut ta, 77, "gpd.ta.version")), "no such set");
    let (n, value) = (name(&mut ta, "org.example.x"), ta.room(20));
    ta.run(|c| property::as_u32(c, own, n, value)).unwrap();
    assert_eq!(ta.word(value), 12);
    ta.run(|c| property::as_u64(c, own, n, value)).unwrap();
    assert_eq!(
        ta.run(|c| property::as_bool(c, own, n, value)),
        code(TEE_ERROR_BAD_FORMAT)
    );
    assert_eq!(
        ta.run(|c| property::as_uuid(c, own, n, value)),
        code(TEE_ERROR_BAD_FORMAT)
    );
    assert_eq!(
        ta.run(|c| property::as_identity(c, own, n, value)),
        code(TEE_ERROR_BAD_FORMAT)
    );
    let n = name(&mut ta, "gpd.client.identity");
    ta.run(|c| property::as_identity(c, client, n, value))
        .unwrap();
    assert_eq!(ta.word(value), TEE_LOGIN_USER);
    let uuid = Mem(&mut ta.memory).array::<16>(value + 4).unwrap();
    assert_eq!(swap_uuid(uuid), ClientIdentity::user(5).uuid);
    let (n, out) = (name(&mut ta, "dev.tegata.ueid"), ta.out(4));
    let short = ta.run(|c| property::as_binary(c, tee, n, out.0, out.1));
    assert_eq!((short, ta.word(out.1)), (code(TEE_ERROR_SHORT_BUFFER), 17));

    let e = ta.handle(property::allocate_enumerator).unwrap();
    let out = ta.out(80);
    let before = ta.run(|c| property::name(c, e, out.0, out.1));
    assert_eq!(before, code(TEE_ERROR_ITEM_NOT_FOUND));
    assert!(panics(ta.run(|c| property::start_enumerator(c, e, 1))));
    ta.run(|c| property::start_enumerator(c, e, tee)).unwrap();
    let mut names = Vec::new();
    loop {
        let out = ta.out(80);
        ta.run(|c| property::name(c, e, out.0, out.1)).unwrap();
        names.push(ta.read(out));
        if ta.run(|c| property::next(c, e)).is_err() {
            break;
        }
        ta.top = ta.top.max(0x100) % 0xC000;
    }
    for wanted in [
        "gpd.tee.deviceID",
        "gpd.tee.apiversion",
        "dev.tegata.security.level",
    ] {
        assert!(
            names.contains(&[wanted.as_bytes(), &[0]].concat()),
            "{wanted}"
        );
    }
    ta.run(|c| property::reset_enumerator(c, e)).unwrap();
    ta.run(|c| property::free_enumerator(c, e)).unwrap();
    assert!(panics(ta.run(|c| property::free_enumerator(c, e))));
}

#[test]
fn a_modules_properties_cannot_claim_the_tees() {
    for bad in [
        &b"gpd.ta.singleInstance = yes"[..],
        b"gpd.tee.deviceID = x",
        b"dev.tegata.serial = forged",
        b"no equals sign",
        b"x = 1\nx = 2",
        b" = 1",
        &[0xff],
        &[b'\n'; 70],
    ] {
        assert!(
            TaProperties::parse(bad).is_err(),
            "{:?}",
            String::from_utf8_lossy(bad)
        );
    }
    let good = TaProperties::parse(b"# comment\n\ngpd.ta.multiSession=true\n").unwrap();
    assert!(good.multi_session);
}

#[test]
fn clocks_waiting_and_cancellation() {
    let mut ta = Ta::with(Fake {
        ree_ms: 5_000_500,
        ..Fake::default()
    });
    let time = ta.room(8);
    ta.run(|c| time::ree_time(c, time)).unwrap();
    assert_eq!((ta.word(time), ta.word(time + 4)), (5000, 500));
    assert_eq!(
        ta.run(|c| time::persistent_time(c, time)),
        code(TEE_ERROR_TIME_NOT_SET)
    );
    let now = ta.put(&[100u32.to_le_bytes(), 7u32.to_le_bytes()].concat());
    ta.run(|c| time::set_persistent_time(c, now)).unwrap();
    ta.run(|c| time::persistent_time(c, time)).unwrap();
    assert_eq!((ta.word(time), ta.word(time + 4)), (100, 7));
    let bad = ta.put(&[1u32.to_le_bytes(), 1000u32.to_le_bytes()].concat());
    assert!(panics(ta.run(|c| time::set_persistent_time(c, bad))));
    let clock = Some(PersistentTime {
        ta_ms: 1,
        ree_ms: 6_000_000,
    });
    let mut back = Ta::with(Fake {
        ree_ms: 5_000_000,
        clock,
        ..Fake::default()
    });
    let reset = back.run(|c| time::persistent_time(c, time));
    assert_eq!(
        reset,
        code(TEE_ERROR_TIME_NEEDS_RESET),
        "the REE's clock ran backwards"
    );
    let mut damaged = Ta::with(Fake {
        clock_damaged: true,
        ..Fake::default()
    });
    assert_eq!(
        damaged.run(|c| time::persistent_time(c, time)),
        code(TEE_ERROR_TIME_NEEDS_RESET),
        "what was set cannot be known any more"
    );
    let clock = Some(PersistentTime {
        ta_ms: u64::from(u32::MAX) * 1000,
        ree_ms: 0,
    });
    let mut late = Ta::with(Fake {
        ree_ms: 5_000_000,
        clock,
        ..Fake::default()
    });
    assert_eq!(
        late.run(|c| time::persistent_time(c, time)),
        code(TEE_ERROR_OVERFLOW)
    );

    // Masked, a request to cancel (after 500 ms here) is not seen.
    let mut ta = Ta::new();
    ta.run(|c| time::wait(c, 1000)).unwrap();
    assert_eq!(ta.run(state::cancellation_flag), Ok(0), "masked");
    assert_eq!(ta.run(state::unmask_cancellation), Ok(1));
    assert_eq!(ta.run(state::cancellation_flag), Ok(1));
    assert_eq!(
        ta.run(|c| time::wait(c, TEE_TIMEOUT_INFINITE)),
        code(TEE_ERROR_CANCEL)
    );
    assert_eq!(ta.run(state::mask_cancellation), Ok(0));
    assert!(panics(ta.run(|c| state::panic(c, 1))));
}

#[test]
fn other_tas_and_extensions() {
    let mut ta = Ta::new();
    let (uuid, origin, session) = (ta.put(&[9; 16]), ta.room(4), ta.room(4));
    let unknown = ta.put(&[8; 16]);
    let refused = ta.run(|c| client_api::open_ta_session(c, unknown, 0, 0, 0, session, origin));
    assert_eq!(
        (refused, ta.word(origin)),
        (code(TEE_ERROR_ITEM_NOT_FOUND), TEE_ORIGIN_TEE)
    );
    ta.run(|c| client_api::open_ta_session(c, uuid, 0, 0, 0, session, origin))
        .unwrap();
    let handle = ta.word(session);
    let params = ta.room(32);
    let types = TEE_PARAM_TYPE_VALUE_OUTPUT;
    ta.run(|c| client_api::invoke_ta_command(c, handle, 0, 42, types, params, origin))
        .unwrap();
    assert_eq!((ta.word(params), ta.word(params + 4)), (5, 42));
    assert_eq!(ta.word(origin), TEE_ORIGIN_TRUSTED_APP);
    assert!(panics(ta.run(|c| client_api::invoke_ta_command(
        c, handle, 0, 1, 4, params, 0
    ))));
    ta.run(|c| client_api::close_ta_session(c, handle)).unwrap();
    assert!(panics(ta.run(|c| client_api::close_ta_session(c, handle))));

    let out = ta.out(16);
    ta.run(|c| extension::component(c, 1, out.0, out.1))
        .unwrap();
    assert_eq!(ta.read(out), b"procedure");
    let none = ta.run(|c| extension::component(c, 2, out.0, out.1));
    assert_eq!(none, code(TEE_ERROR_ITEM_NOT_FOUND));
    assert!(panics(ta.run(|c| extension::component(c, 3, out.0, out.1))));
    let (nonce, out) = (ta.put(b"nonce678"), ta.out(64));
    ta.run(|c| extension::evidence(c, nonce, 8, out.0, out.1))
        .unwrap();
    assert_eq!(ta.read(out), b"evidence nonce678");
    assert!(panics(
        ta.run(|c| extension::evidence(c, nonce, 7, out.0, out.1))
    ));
    let key = ta
        .handle(|c, o| object::allocate_transient_object(c, TEE_TYPE_AES, 256, o))
        .unwrap();
    ta.run(|c| extension::ta_unique_key(c, nonce, 5, key))
        .unwrap();
    assert!(
        panics(ta.run(|c| extension::ta_unique_key(c, nonce, 5, key))),
        "not empty"
    );
    for _ in 0..40 {
        ta.run(|c| extension::log(c, nonce, 8)).unwrap();
    }
}
