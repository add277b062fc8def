//! Bytes to messages and back.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{
    Attestation, Challenge, CipherSuite, DataItems, ErrCode, Error, FreshnessMechanism, LIMITS,
    MAX_ATTESTATION_LEN, MAX_FORMAT_LEN, MAX_LIST, MAX_MESSAGE_LEN, MAX_REPORT_LEN, Message,
    QueryRequest, QueryResponse, RequestedTc, Success, SuitCoseProfile, TeepError, Token,
    UnknownOption, Update,
};
use crate::cbor::{self, CborError, MapBuilder, MapReader, Pieces, Value};
use crate::suit::{ComponentId, SystemProperties};

// Labels of options.
const SUPPORTED_TEEP_CIPHER_SUITES: i64 = 1;
const CHALLENGE: i64 = 2;
const VERSIONS: i64 = 3;
const SUPPORTED_SUIT_COSE_PROFILES: i64 = 4;
const SELECTED_VERSION: i64 = 6;
const ATTESTATION_PAYLOAD: i64 = 7;
const TC_LIST: i64 = 8;
const EXT_LIST: i64 = 9;
const MANIFEST_LIST: i64 = 10;
const MSG: i64 = 11;
const ERR_MSG: i64 = 12;
const ATTESTATION_PAYLOAD_FORMAT: i64 = 13;
const REQUESTED_TC_LIST: i64 = 14;
const UNNEEDED_MANIFEST_LIST: i64 = 15;
const COMPONENT_ID: i64 = 16;
const TC_MANIFEST_SEQUENCE_NUMBER: i64 = 17;
const HAVE_BINARY: i64 = 18;
const SUIT_REPORTS: i64 = 19;
const TOKEN: i64 = 20;
const SUPPORTED_FRESHNESS_MECHANISMS: i64 = 21;
const ERR_LANG: i64 = 22;
const ERR_CODE: i64 = 23;

/// Type number of an Update.
const UPDATE: u64 = 3;

/// Longest `msg` and `err-msg` in bytes.
const MAX_MSG_LEN: usize = 128;
/// Longest `err-lang` in bytes.
const MAX_LANG_LEN: usize = 35;

pub(super) fn decode(bytes: &[u8]) -> Result<Message, TeepError> {
    if bytes.len() > MAX_MESSAGE_LEN {
        return Err(TeepError::TooLong {
            max: MAX_MESSAGE_LEN,
            got: bytes.len(),
        });
    }
    let value = cbor::decode_limited(bytes, LIMITS)?;
    // Elements behind the known ones are for extensions, and ignored.
    let mut items = cbor::into_array(value, "teep-message", 2, 16)?.into_iter();
    let mut next = |what| items.next().ok_or(CborError::Missing { what });
    let message_type = cbor::uint(&next("type")?, "type")?;
    let mut options = Options(MapReader::new(next("options")?, "options")?);
    Ok(match message_type {
        1 => Message::QueryRequest(QueryRequest {
            token: options.token()?,
            supported_freshness_mechanisms: options.freshness()?,
            challenge: options.challenge()?,
            versions: options.versions()?,
            attestation: options.attestation()?,
            suit_reports: options.suit_reports()?,
            supported_teep_cipher_suites: cipher_suites(next("supported-teep-cipher-suites")?)?,
            supported_suit_cose_profiles: profiles(next("supported-suit-cose-profiles")?)?,
            data_item_requested: DataItems::from_bits(cbor::uint(
                &next("data-item-requested")?,
                "data-item-requested",
            )?),
            unknown: options.rest(),
        }),
        2 => Message::QueryResponse(QueryResponse {
            token: options.token()?,
            selected_version: options.take(SELECTED_VERSION, |v| u32_of(&v, "selected-version"))?,
            attestation: options.attestation()?,
            suit_reports: options.suit_reports()?,
            tc_list: options.list(TC_LIST, "tc-list", 0, |v| {
                Ok(SystemProperties::from_value(v)?)
            })?,
            requested_tc_list: options.list(
                REQUESTED_TC_LIST,
                "requested-tc-list",
                1,
                requested_tc,
            )?,
            unneeded_manifest_list: options.unneeded()?,
            ext_list: options.list(EXT_LIST, "ext-list", 0, |v| u32_of(&v, "ext-info"))?,
            unknown: options.rest(),
        }),
        3 => Message::Update(Update {
            token: options.token()?,
            unneeded_manifest_list: options.unneeded()?,
            manifest_list: options.list(MANIFEST_LIST, "manifest-list", 1, |v| {
                Ok(cbor::into_bytes(v, "manifest-list")?)
            })?,
            attestation: options.attestation()?,
            err_code: options.take(ERR_CODE, |v| err_code(&v))?,
            err_msg: options.text(ERR_MSG, "err-msg", MAX_MSG_LEN)?,
            err_lang: options.text(ERR_LANG, "err-lang", MAX_LANG_LEN)?,
            unknown: options.rest(),
        }),
        5 => Message::Success(Success {
            token: options.token()?,
            msg: options.text(MSG, "msg", MAX_MSG_LEN)?,
            suit_reports: options.suit_reports()?,
            unknown: options.rest(),
        }),
        6 => Message::Error(Error {
            token: options.token()?,
            err_code: err_code(&next("err-code")?)?,
            err_msg: options.text(ERR_MSG, "err-msg", MAX_MSG_LEN)?,
            err_lang: options.text(ERR_LANG, "err-lang", MAX_LANG_LEN)?,
            supported_teep_cipher_suites: options
                .take(SUPPORTED_TEEP_CIPHER_SUITES, cipher_suites)?,
            supported_freshness_mechanisms: options.freshness()?,
            supported_suit_cose_profiles: options.take(SUPPORTED_SUIT_COSE_PROFILES, profiles)?,
            challenge: options.challenge()?,
            versions: options.versions()?,
            suit_reports: options.suit_reports()?,
            unknown: options.rest(),
        }),
        got => return Err(TeepError::MessageType { got }),
    })
}

pub(super) fn encode(message: &Message) -> Result<Vec<u8>, TeepError> {
    let mut items: Vec<Value> = Vec::new();
    items.push(message.type_number().into());
    let token = message.token().map(|token| Value::Bytes(token.0.clone()));
    let options = MapBuilder::new().put_opt(TOKEN, token);
    match message {
        Message::QueryRequest(m) => {
            let options = put_attestation(options, m.attestation.as_ref())
                .put_opt(
                    SUPPORTED_FRESHNESS_MECHANISMS,
                    freshness_value(&m.supported_freshness_mechanisms)?,
                )
                .put_opt(CHALLENGE, challenge_value(&m.challenge))
                .put_opt(VERSIONS, versions_value(&m.versions)?)
                .put_opt(SUIT_REPORTS, reports_value(&m.suit_reports)?);
            items.push(finish(options, &m.unknown)?);
            items.push(list_value(
                &m.supported_teep_cipher_suites,
                "supported-teep-cipher-suites",
                CipherSuite::to_value,
            )?);
            items.push(list_value(
                &m.supported_suit_cose_profiles,
                "supported-suit-cose-profiles",
                |p| p.to_value(),
            )?);
            items.push(m.data_item_requested.bits().into());
        }
        Message::QueryResponse(m) => {
            let tc_list = m
                .tc_list
                .as_ref()
                .map(|list| {
                    cbor::check_len(list.len(), "tc-list", 0, MAX_LIST)?;
                    let list = list.iter().map(SystemProperties::to_value);
                    Ok::<_, TeepError>(Value::Array(list.collect::<Result<_, _>>()?))
                })
                .transpose()?;
            let requested = m
                .requested_tc_list
                .as_ref()
                .map(|list| {
                    cbor::check_len(list.len(), "requested-tc-list", 1, MAX_LIST)?;
                    let list = list.iter().map(requested_tc_value);
                    Ok::<_, TeepError>(Value::Array(list.collect::<Result<_, _>>()?))
                })
                .transpose()?;
            let ext_list = m
                .ext_list
                .as_ref()
                .map(|list| Value::Array(list.iter().map(|ext| (*ext).into()).collect()));
            let options = put_attestation(options, m.attestation.as_ref())
                .put_opt(SELECTED_VERSION, m.selected_version)
                .put_opt(SUIT_REPORTS, reports_value(&m.suit_reports)?)
                .put_opt(TC_LIST, tc_list)
                .put_opt(REQUESTED_TC_LIST, requested)
                .put_opt(
                    UNNEEDED_MANIFEST_LIST,
                    unneeded_value(&m.unneeded_manifest_list)?,
                )
                .put_opt(EXT_LIST, ext_list);
            items.push(finish(options, &m.unknown)?);
        }
        Message::Update(m) => return Ok(update(m, None)?.to_vec()),
        Message::Success(m) => {
            let options = options
                .put_opt(MSG, text_value(&m.msg, "msg", MAX_MSG_LEN)?)
                .put_opt(SUIT_REPORTS, reports_value(&m.suit_reports)?);
            items.push(finish(options, &m.unknown)?);
        }
        Message::Error(m) => {
            let suites = m
                .supported_teep_cipher_suites
                .as_ref()
                .map(|l| list_value(l, "supported-teep-cipher-suites", CipherSuite::to_value))
                .transpose()?;
            let profiles = m
                .supported_suit_cose_profiles
                .as_ref()
                .map(|l| list_value(l, "supported-suit-cose-profiles", |p| p.to_value()))
                .transpose()?;
            let options = options
                .put_opt(ERR_MSG, text_value(&m.err_msg, "err-msg", MAX_MSG_LEN)?)
                .put_opt(ERR_LANG, text_value(&m.err_lang, "err-lang", MAX_LANG_LEN)?)
                .put_opt(SUPPORTED_TEEP_CIPHER_SUITES, suites)
                .put_opt(
                    SUPPORTED_FRESHNESS_MECHANISMS,
                    freshness_value(&m.supported_freshness_mechanisms)?,
                )
                .put_opt(SUPPORTED_SUIT_COSE_PROFILES, profiles)
                .put_opt(CHALLENGE, challenge_value(&m.challenge))
                .put_opt(VERSIONS, versions_value(&m.versions)?)
                .put_opt(SUIT_REPORTS, reports_value(&m.suit_reports)?);
            items.push(finish(options, &m.unknown)?);
            items.push(m.err_code.number().into());
        }
    }
    let bytes = cbor::encode(&Value::Array(items))?;
    fits(bytes.len())?;
    Ok(bytes)
}

/// An Update in pieces, `last` behind the manifests that it has.
pub(super) fn update<'a>(m: &'a Update, last: Option<Pieces<'a>>) -> Result<Pieces<'a>, TeepError> {
    let own = m.manifest_list.as_ref();
    let listed = own.is_some() || last.is_some();
    let manifests = own
        .into_iter()
        .flatten()
        .map(|bytes| Pieces::raw(bytes.as_slice()))
        .chain(last)
        .map(Pieces::into_bytes)
        .collect::<Result<Vec<_>, _>>()?;
    let token = m.token.as_ref().map(|token| Value::Bytes(token.0.clone()));
    let options = put_attestation(
        MapBuilder::new().put_opt(TOKEN, token),
        m.attestation.as_ref(),
    )
    .put_opt(
        UNNEEDED_MANIFEST_LIST,
        unneeded_value(&m.unneeded_manifest_list)?,
    )
    .put_opt(ERR_CODE, m.err_code.map(ErrCode::number))
    .put_opt(ERR_MSG, text_value(&m.err_msg, "err-msg", MAX_MSG_LEN)?)
    .put_opt(ERR_LANG, text_value(&m.err_lang, "err-lang", MAX_LANG_LEN)?)
    .extend(m.unknown.iter().cloned());
    let mut entries = options.into_pieces()?;
    if listed {
        cbor::check_len(manifests.len(), "manifest-list", 1, MAX_LIST)?;
        entries.push((MANIFEST_LIST.into(), Pieces::array(manifests)?));
    }
    let message = Pieces::array(vec![Pieces::value(&UPDATE.into())?, Pieces::map(entries)?])?;
    fits(message.len())?;
    Ok(message)
}

fn fits(got: usize) -> Result<(), TeepError> {
    match got {
        0..=MAX_MESSAGE_LEN => Ok(()),
        _ => Err(TeepError::TooLong {
            max: MAX_MESSAGE_LEN,
            got,
        }),
    }
}

/// The options of a message that is being read.
struct Options(MapReader);

impl Options {
    fn take<T>(
        &mut self,
        label: i64,
        read: impl FnOnce(Value) -> Result<T, TeepError>,
    ) -> Result<Option<T>, TeepError> {
        self.0.take(label).map(read).transpose()
    }

    fn list<T>(
        &mut self,
        label: i64,
        what: &'static str,
        min: usize,
        read: impl Fn(Value) -> Result<T, TeepError>,
    ) -> Result<Option<Vec<T>>, TeepError> {
        self.take(label, |value| {
            cbor::into_array(value, what, min, MAX_LIST)?
                .into_iter()
                .map(read)
                .collect()
        })
    }

    fn text(
        &mut self,
        label: i64,
        what: &'static str,
        max: usize,
    ) -> Result<Option<String>, TeepError> {
        self.take(label, |value| {
            let text = cbor::into_text(value, what, max)?;
            cbor::check_len(text.len(), what, 1, max)?;
            Ok(text)
        })
    }

    fn token(&mut self) -> Result<Option<Token>, TeepError> {
        self.take(TOKEN, |v| Ok(Token::new(cbor::into_bytes(v, "token")?)?))
    }

    fn challenge(&mut self) -> Result<Option<Challenge>, TeepError> {
        self.take(CHALLENGE, |v| {
            Ok(Challenge::new(cbor::into_bytes(v, "challenge")?)?)
        })
    }

    fn versions(&mut self) -> Result<Option<Vec<u32>>, TeepError> {
        self.list(VERSIONS, "versions", 1, |v| u32_of(&v, "versions"))
    }

    fn freshness(&mut self) -> Result<Option<Vec<FreshnessMechanism>>, TeepError> {
        const WHAT: &str = "supported-freshness-mechanisms";
        self.list(SUPPORTED_FRESHNESS_MECHANISMS, WHAT, 1, |v| {
            Ok(FreshnessMechanism::from_number(cbor::uint(&v, WHAT)?))
        })
    }

    fn suit_reports(&mut self) -> Result<Option<Vec<Vec<u8>>>, TeepError> {
        self.list(SUIT_REPORTS, "suit-reports", 1, |v| {
            Ok(cbor::into_bytes_sized(
                v,
                "suit-reports",
                1,
                MAX_REPORT_LEN,
            )?)
        })
    }

    fn unneeded(&mut self) -> Result<Option<Vec<ComponentId>>, TeepError> {
        self.list(UNNEEDED_MANIFEST_LIST, "unneeded-manifest-list", 1, |v| {
            Ok(ComponentId::from_value(v)?)
        })
    }

    fn attestation(&mut self) -> Result<Option<Attestation>, TeepError> {
        const FORMAT: &str = "attestation-payload-format";
        let format = self.take(ATTESTATION_PAYLOAD_FORMAT, |v| {
            Ok(cbor::into_text(v, FORMAT, MAX_FORMAT_LEN)?)
        })?;
        let payload = self.take(ATTESTATION_PAYLOAD, |v| {
            Ok(cbor::into_bytes_sized(
                v,
                "attestation-payload",
                0,
                MAX_ATTESTATION_LEN,
            )?)
        })?;
        // A format without a payload says nothing.
        Ok(payload.map(|payload| Attestation { format, payload }))
    }

    fn rest(self) -> Vec<UnknownOption> {
        self.0.into_rest()
    }
}

fn u32_of(value: &Value, what: &'static str) -> Result<u32, TeepError> {
    Ok(u32::try_from(cbor::uint(value, what)?).map_err(|_| CborError::Range { what })?)
}

fn err_code(value: &Value) -> Result<ErrCode, TeepError> {
    ErrCode::from_number(cbor::uint(value, "err-code")?)
}

fn cipher_suites(value: Value) -> Result<Vec<CipherSuite>, TeepError> {
    cbor::into_array(value, "supported-teep-cipher-suites", 1, MAX_LIST)?
        .into_iter()
        .map(CipherSuite::from_value)
        .collect()
}

fn profiles(value: Value) -> Result<Vec<SuitCoseProfile>, TeepError> {
    cbor::into_array(value, "supported-suit-cose-profiles", 1, MAX_LIST)?
        .into_iter()
        .map(SuitCoseProfile::from_value)
        .collect()
}

fn requested_tc(value: Value) -> Result<RequestedTc, TeepError> {
    let mut map = MapReader::new(value, "requested-tc-info")?;
    let number = map.take(TC_MANIFEST_SEQUENCE_NUMBER);
    let have_binary = map.take(HAVE_BINARY);
    Ok(RequestedTc {
        component_id: ComponentId::from_value(map.require(COMPONENT_ID, "component-id")?)?,
        tc_manifest_sequence_number: number
            .map(|v| cbor::uint(&v, "tc-manifest-sequence-number"))
            .transpose()?,
        have_binary: have_binary
            .map(|v| cbor::boolean(&v, "have-binary"))
            .transpose()?,
    })
}

fn requested_tc_value(tc: &RequestedTc) -> Result<Value, TeepError> {
    // The specification: have-binary needs the sequence number beside it.
    if tc.have_binary == Some(true) && tc.tc_manifest_sequence_number.is_none() {
        return Err(TeepError::Invalid {
            what: "have-binary without tc-manifest-sequence-number",
        });
    }
    Ok(MapBuilder::new()
        .put(COMPONENT_ID, tc.component_id.to_value())
        .put_opt(TC_MANIFEST_SEQUENCE_NUMBER, tc.tc_manifest_sequence_number)
        .put_opt(HAVE_BINARY, tc.have_binary)
        .finish()?)
}

fn put_attestation(options: MapBuilder, attestation: Option<&Attestation>) -> MapBuilder {
    match attestation {
        Some(attestation) => options
            .put_opt(ATTESTATION_PAYLOAD_FORMAT, attestation.format.clone())
            .put(
                ATTESTATION_PAYLOAD,
                Value::Bytes(attestation.payload.clone()),
            ),
        None => options,
    }
}

fn list_value<T>(
    list: &[T],
    what: &'static str,
    value: impl Fn(&T) -> Value,
) -> Result<Value, TeepError> {
    cbor::check_len(list.len(), what, 1, MAX_LIST)?;
    Ok(Value::Array(list.iter().map(value).collect()))
}

fn freshness_value(list: &Option<Vec<FreshnessMechanism>>) -> Result<Option<Value>, TeepError> {
    let what = "supported-freshness-mechanisms";
    list.as_ref()
        .map(|list| list_value(list, what, |f| f.number().into()))
        .transpose()
}

fn versions_value(list: &Option<Vec<u32>>) -> Result<Option<Value>, TeepError> {
    list.as_ref()
        .map(|list| list_value(list, "versions", |v| (*v).into()))
        .transpose()
}

fn reports_value(list: &Option<Vec<Vec<u8>>>) -> Result<Option<Value>, TeepError> {
    list.as_ref()
        .map(|list| list_value(list, "suit-reports", |bytes| Value::Bytes(bytes.clone())))
        .transpose()
}

fn unneeded_value(list: &Option<Vec<ComponentId>>) -> Result<Option<Value>, TeepError> {
    let what = "unneeded-manifest-list";
    list.as_ref()
        .map(|list| list_value(list, what, ComponentId::to_value))
        .transpose()
}

fn challenge_value(challenge: &Option<Challenge>) -> Option<Value> {
    challenge
        .as_ref()
        .map(|challenge| Value::Bytes(challenge.0.clone()))
}

fn text_value(
    text: &Option<String>,
    what: &'static str,
    max: usize,
) -> Result<Option<Value>, TeepError> {
    if let Some(text) = text {
        cbor::check_len(text.len(), what, 1, max)?;
    }
    Ok(text.clone().map(Value::Text))
}

fn finish(options: MapBuilder, unknown: &[UnknownOption]) -> Result<Value, TeepError> {
    Ok(options.extend(unknown.iter().cloned()).finish()?)
}
