//! A verdict as JSON: the same of the service and of `tegata verify --json`.

use serde_json::{Map, Value as Json, json};
use tegata_authority::statement::{Authentic, Finding, NotAuthentic};
use tegata_wire::cbor::Value;
use tegata_wire::rats::statement::Location;

use crate::certificate::serial_text;

/// Deepest nesting of a claim that is shown.
const DEPTH_MAX: u8 = 4;

/// Of a statement that is its device's.
#[must_use]
pub fn of(authentic: &Authentic, findings: &[Finding]) -> Json {
    let said = authentic.statement();
    let reasons: Vec<Json> = findings
        .iter()
        .map(|finding| json!({ "code": finding.code(), "detail": finding.to_string() }))
        .collect();
    let mut statement = json!({
        "profile": said.profile,
        "made_at": said.made_at,
        "nonce": hex::encode(&said.nonce),
        "number": said.number,
    });
    if let (Some(at), Some(map)) = (&said.location, statement.as_object_mut()) {
        map.insert("location".to_owned(), place(at));
    }
    if let (false, Some(map)) = (said.other.is_empty(), statement.as_object_mut()) {
        let claims: Map<String, Json> = said
            .other
            .iter()
            .map(|(key, value)| (name(key), shown(value, DEPTH_MAX)))
            .collect();
        map.insert("claims".to_owned(), Json::Object(claims));
    }
    json!({
        "verdict": if findings.is_empty() { "pass" } else { "fail" },
        "authentic": true,
        "ueid": said.ueid.to_string(),
        "certificate": {
            "serial": serial_text(authentic.certificate_serial()),
            "sha256": hex::encode(authentic.certificate_digest()),
        },
        "statement": statement,
        "reasons": reasons,
    })
}

/// Of a message that is nobody's: nothing in it is repeated, for nothing in it is to be believed.
#[must_use]
pub fn of_stranger(reason: &NotAuthentic) -> Json {
    json!({
        "verdict": "fail",
        "authentic": false,
        "reasons": [{ "code": reason.code(), "detail": reason.to_string() }],
    })
}

fn place(at: &Location) -> Json {
    let members = [
        ("latitude", Some(json!(at.latitude))),
        ("longitude", Some(json!(at.longitude))),
        ("altitude", at.altitude.map(Json::from)),
        ("accuracy", at.accuracy.map(Json::from)),
        ("altitude_accuracy", at.altitude_accuracy.map(Json::from)),
        ("heading", at.heading.map(Json::from)),
        ("speed", at.speed.map(Json::from)),
        ("timestamp", at.timestamp.map(Json::from)),
        ("age", at.age.map(Json::from)),
    ];
    let members = members
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Json::Object(members.collect())
}

fn name(key: &Value) -> String {
    match key {
        Value::Text(text) => text.clone(),
        Value::Integer(number) => i128::from(*number).to_string(),
        _ => "?".to_owned(),
    }
}

/// Another sensor's claim: bytes as hexadecimal, what JSON has not as null.
fn shown(value: &Value, depth: u8) -> Json {
    let Some(below) = depth.checked_sub(1) else {
        return Json::Null;
    };
    match value {
        Value::Integer(number) => match i64::try_from(*number) {
            Ok(number) => json!(number),
            Err(_) => json!(i128::from(*number).to_string()),
        },
        Value::Float(number) => json!(number),
        Value::Bool(truth) => json!(truth),
        Value::Text(text) => json!(text),
        Value::Bytes(bytes) => json!(hex::encode(bytes)),
        Value::Tag(_, inner) => shown(inner, below),
        Value::Array(items) => items.iter().map(|item| shown(item, below)).collect(),
        Value::Map(entries) => Json::Object(
            entries
                .iter()
                .map(|(key, value)| (name(key), shown(value, below)))
                .collect(),
        ),
        _ => Json::Null,
    }
}
