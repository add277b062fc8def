use alloc::vec;

use super::*;

fn unhex(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

/// Spec: RFC 8949 appendix A (a selection with every major type)
#[test]
fn appendix_a_round_trips() {
    for text in [
        "00",
        "17",
        "1818",
        "1903e8",
        "1bffffffffffffffff",
        "20",
        "3903e7",
        "f4",
        "f5",
        "f6",
        "40",
        "4401020304",
        "60",
        "6449455446",
        "80",
        "83010203",
        "8301820203820405",
        "a0",
        "a201020304",
        "c074323031332d30332d32315432303a30343a30305a",
        "d74401020304",
        "a56161614161626142616361436164614461656145",
        "f90000",
        "fb3ff199999999999a",
    ] {
        let value = decode(&unhex(text), 4).unwrap();
        assert_eq!(hex::encode(encode(&value).unwrap()), text);
    }
}

#[test]
fn indefinite_lengths_are_read() {
    for (text, definite) in [
        ("5f42010243030405ff", "450102030405"),
        ("7f657374726561646d696e67ff", "6973747265616d696e67"),
        ("9fff", "80"),
        ("9f018202039f0405ffff", "8301820203820405"),
        ("bf61610161629f0203ffff", "a26161016162820203"),
    ] {
        let value = decode(&unhex(text), 4).unwrap();
        assert_eq!(hex::encode(encode(&value).unwrap()), definite, "{text}");
    }
}

#[test]
fn malformed_input_is_refused() {
    for text in [
        "",
        "18",
        "1c",
        "41",
        "61",
        "6180",
        "81",
        "a1",
        "a101",
        "c0",
        "ff",
        "9f",
        "bf01ff",
        "5f01ff",
        "5f5f4100ffff",
        "f800",
        "f8ff",
        "9bffffffffffffffff",
        "bbffffffffffffffff",
        "5bffffffffffffffff",
        "7b7fffffffffffffff",
        "81ff",
        "a1ffff",
        "e0",
        // Bignums: the integer 1 in another form, and one that would be beyond 64 bits.
        "c24101",
        "c25fff",
        "c349010000000000000000",
        "a20102c2410103",
    ] {
        assert!(decode(&unhex(text), 4).is_err(), "{text}");
        assert!(
            array_item_offsets(&unhex(text), Limits::MESSAGE).is_err(),
            "{text}"
        );
    }
    assert_eq!(decode(&unhex("0000"), 4), Err(CborError::Trailing));
    assert_eq!(
        decode(&unhex("a201020103"), 4),
        Err(CborError::DuplicateKey)
    );
    // The same number in another form is the same key.
    assert_eq!(
        decode(&unhex("a20102180103"), 4),
        Err(CborError::DuplicateKey)
    );
    assert_eq!(
        decode(&unhex("81a201020103"), 4),
        Err(CborError::DuplicateKey)
    );
}

#[test]
fn no_key_is_there_twice_in_a_map_of_any_length() {
    // Texts, byte strings, and what is not equal to itself.
    for text in ["a2616101616102", "a2416101416102", "a2f97e0001f97e0002"] {
        assert_eq!(
            decode(&unhex(text), 4),
            Err(CborError::DuplicateKey),
            "{text}"
        );
    }
    for len in [2u64, 23, 24, 25, 26, 200] {
        let entries = |last| (1..len).chain([last]).map(|n| (n.into(), Value::Null));
        let coded = |last| encode(&Value::Map(entries(last).collect())).unwrap();
        assert!(decode(&coded(len), 4).is_ok(), "{len}");
        for last in [1, len / 2, len - 1] {
            let last = last.max(1);
            assert_eq!(
                decode(&coded(last), 4),
                Err(CborError::DuplicateKey),
                "{len} {last}"
            );
        }
    }
}

#[test]
fn depth_and_items_are_limited() {
    let mut bomb = vec![0x81; 100_000];
    assert_eq!(decode(&bomb, 16), Err(CborError::TooDeep { max: 16 }));
    bomb.fill(0xc1);
    assert_eq!(decode(&bomb, 16), Err(CborError::TooDeep { max: 16 }));
    bomb.fill(0x9f);
    assert_eq!(decode(&bomb, 16), Err(CborError::TooDeep { max: 16 }));
    let mut nested = vec![0x81; 16];
    nested.push(0);
    assert!(decode(&nested, 16).is_ok());
    nested.insert(0, 0xc1);
    assert_eq!(decode(&nested, 16), Err(CborError::TooDeep { max: 16 }));
    assert!(decode(&nested, 17).is_ok());

    let mut wide = vec![0x99, 0xff, 0xff];
    wide.resize(3 + 0xffff, 0);
    assert_eq!(
        decode(&wide, 16),
        Err(CborError::TooManyItems { max: 8192 })
    );
    assert!(decode_limited(&wide, Limits::BATCH).is_ok());
    assert_eq!(
        from_slice::<Vec<u8>>(&wide),
        Err(CborError::TooManyItems { max: 8192 })
    );
}

#[test]
fn offsets_of_array_items() {
    let offsets = array_item_offsets(&unhex("8401410282030405"), Limits::MESSAGE).unwrap();
    assert_eq!(offsets, [1, 2, 4, 7]);
    let offsets = array_item_offsets(&unhex("9f01410205ff"), Limits::MESSAGE).unwrap();
    assert_eq!(offsets, [1, 2, 4]);
    assert_eq!(
        array_item_offsets(&unhex("80"), Limits::MESSAGE).unwrap(),
        []
    );
}

#[test]
fn builder_sorts_and_refuses_duplicates() {
    let map = MapBuilder::new()
        .put("a", 1)
        .put(-1, 2)
        .put(24, 3)
        .put(2, 4)
        .put_opt(9, None::<u8>);
    assert_eq!(hex::encode(map.encode().unwrap()), "a402041818032002616101");
    assert_eq!(
        MapBuilder::new().put(1, 1).put(1, 2).finish(),
        Err(CborError::DuplicateKey)
    );
}

#[test]
fn serde_byte_strings() {
    #[derive(serde::Serialize, serde::Deserialize, PartialEq, Debug)]
    struct Frame {
        #[serde(with = "bytes")]
        body: Vec<u8>,
        #[serde(with = "bytes")]
        id: [u8; 4],
    }
    let frame = Frame {
        body: vec![7; 3],
        id: [1; 4],
    };
    let wire = to_vec(&frame).unwrap();
    assert_eq!(hex::encode(&wire), "a264626f6479430707076269644401010101");
    assert_eq!(from_slice::<Frame>(&wire).unwrap(), frame);
    assert_eq!(
        from_slice::<Frame>(&unhex("a264626f64794307070762696443010101")),
        Err(CborError::Structure)
    );
}
