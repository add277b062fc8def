//! Both tellers show every event, within 100 columns.

use super::terminal::wrap;
use super::*;
use unicode_width::UnicodeWidthStr as _;

fn plain(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        if c == '\x1b' {
            for c in rest.by_ref() {
                if c == 'm' {
                    break;
                }
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn events() -> Vec<Event> {
    let long = "word ".repeat(60);
    vec![
        Event::Chapter {
            title: "工場 Factory".into(),
            about: long.clone(),
        },
        Event::Act(
            Act::by(Who::Verifier, long.clone())
                .step(14)
                .sent(Who::Factory, 123_456_789)
                .took(std::time::Duration::from_secs(100))
                .detail("手形".repeat(80))
                .detail(long.clone()),
        ),
        Event::Attack {
            name: "Altered CSR".into(),
            attempt: vec![long.clone()],
            refused: true,
            by: Who::Ca,
            reason: long.clone(),
            unharmed: long.clone(),
        },
        Event::Certificate {
            ueid: "01".into(),
            path: "/tmp/x".into(),
            len_bytes: 700,
            fields: vec![("subject".into(), "手形".repeat(100))],
        },
        Event::Verified {
            by: "openssl verify".into(),
            ok: true,
            detail: long.clone(),
        },
        Event::Failed {
            code: "x".into(),
            what: long.clone(),
            mend: long,
            log: "/tmp/log".into(),
        },
    ]
}

#[test]
fn nothing_is_wider_than_100_columns() {
    let teller = TerminalTeller::new();
    for event in events() {
        for line in teller.lines(&event) {
            let line = plain(&line);
            assert!(line.width() <= 100, "{} columns: {line}", line.width());
        }
    }
}

#[test]
fn every_event_is_one_json_object() {
    for event in events() {
        let value = serde_json::to_value(&event).unwrap();
        assert!(value.get("event").is_some(), "{value}");
    }
}

#[test]
fn wrapping_keeps_every_word() {
    let text = "a bb ccc 手形手形手形手形 dddddddddddddddddddd e";
    let joined: String = wrap(text, 10).concat();
    assert_eq!(joined.replace(' ', ""), text.replace(' ', ""));
    assert_eq!(wrap("", 10), vec![String::new()]);
}

#[test]
fn numbers_people_read() {
    assert_eq!(size(7), "7 B");
    assert_eq!(size(1_234), "1,234 B");
    assert_eq!(size(80_000), "78.1 KiB");
    assert_eq!(size(3_000_000), "2.8 MiB");
    assert_eq!(span(17), "17 µs");
    assert_eq!(span(1_940), "1.9 ms");
    assert_eq!(span(340_000), "340 ms");
    assert_eq!(span(2_345_678), "2.34 s");
}
