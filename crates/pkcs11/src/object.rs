//! Objects and their attributes.
//!
//! A token object is made whole when it is read from the TEE and never changes; a renewed
//! certificate is another object. A session object is a secret that was agreed on.

use std::sync::Arc;

use cryptoki_sys as ck;
use der::asn1::IntRef;
use der::{DateTime, Encode};
use sha2::{Digest, Sha256};
use tegata_wire::x509::CertView;
use zeroize::Zeroizing;

use crate::key::{Key, Kind, key_id};
use crate::rv::{Result, Rv, rv};

/// What an object is, for those who use it rather than read it.
#[derive(Clone)]
pub(crate) enum Role {
    Certificate,
    Public(Arc<Key>),
    Private(Arc<Key>),
    /// A secret of this session.
    Secret {
        session: ck::CK_SESSION_HANDLE,
    },
}

/// An attribute's value.
enum Value {
    Bytes(Zeroizing<Vec<u8>>),
    /// There, and never shown.
    Sensitive,
}

/// An object.
pub(crate) struct Object {
    /// What it is.
    pub role: Role,
    /// Names it for ever: class and contents.
    pub identity: [u8; 32],
    attributes: Vec<(ck::CK_ATTRIBUTE_TYPE, Value)>,
}

/// A template of the caller: types and values.
pub(crate) type Template = Vec<(ck::CK_ATTRIBUTE_TYPE, Zeroizing<Vec<u8>>)>;

impl Object {
    fn new(role: Role, class: ck::CK_OBJECT_CLASS, contents: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        hash.update(class.to_ne_bytes());
        for part in contents {
            hash.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_ne_bytes());
            hash.update(part);
        }
        let identity: [u8; 32] = hash.finalize().into();
        let unique: String = identity
            .iter()
            .take(16)
            .map(|b| format!("{b:02x}"))
            .collect();
        Self {
            role,
            identity,
            attributes: Vec::new(),
        }
        .number(ck::CKA_CLASS, class)
        .bytes(ck::CKA_UNIQUE_ID, unique.as_bytes())
    }

    fn bytes(mut self, kind: ck::CK_ATTRIBUTE_TYPE, value: &[u8]) -> Self {
        let value = Value::Bytes(Zeroizing::new(value.to_vec()));
        self.attributes.push((kind, value));
        self
    }

    fn number(self, kind: ck::CK_ATTRIBUTE_TYPE, value: ck::CK_ULONG) -> Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    fn flags(self, value: bool, kinds: &[ck::CK_ATTRIBUTE_TYPE]) -> Self {
        kinds
            .iter()
            .fold(self, |this, kind| this.bytes(*kind, &[u8::from(value)]))
    }

    fn sensitive(mut self, kind: ck::CK_ATTRIBUTE_TYPE) -> Self {
        self.attributes.push((kind, Value::Sensitive));
        self
    }

    /// Attributes of everything that is on the token.
    fn on_token(self, private: bool, label: &str, id: &[u8]) -> Self {
        self.flags(true, &[ck::CKA_TOKEN])
            .flags(private, &[ck::CKA_PRIVATE])
            .flags(
                false,
                &[ck::CKA_MODIFIABLE, ck::CKA_COPYABLE, ck::CKA_DESTROYABLE],
            )
            .bytes(ck::CKA_LABEL, label.as_bytes())
            .bytes(ck::CKA_ID, id)
    }

    /// Attributes of both halves of a key pair. Spec: PKCS #11 3.1 section 4.8.
    fn of_key_pair(self, key: &Key, subject_der: &[u8]) -> Result<Self> {
        let (key_type, made_by, mechanisms): (_, _, &[ck::CK_MECHANISM_TYPE]) = match key.kind {
            Kind::Ed25519 => (
                ck::CKK_EC_EDWARDS,
                ck::CKM_EC_EDWARDS_KEY_PAIR_GEN,
                &[ck::CKM_EDDSA],
            ),
            _ => (
                ck::CKK_EC,
                ck::CKM_EC_KEY_PAIR_GEN,
                &[
                    ck::CKM_ECDSA,
                    ck::CKM_ECDSA_SHA256,
                    ck::CKM_ECDSA_SHA384,
                    ck::CKM_ECDSA_SHA512,
                    ck::CKM_ECDH1_DERIVE,
                ],
            ),
        };
        let allowed: Vec<u8> = mechanisms
            .iter()
            .filter(|kind| match **kind {
                ck::CKM_ECDH1_DERIVE => key.derives,
                _ => key.signs,
            })
            .flat_map(|kind| kind.to_ne_bytes())
            .collect();
        Ok(self
            .number(ck::CKA_KEY_TYPE, key_type)
            .number(ck::CKA_KEY_GEN_MECHANISM, made_by)
            .bytes(ck::CKA_ALLOWED_MECHANISMS, &allowed)
            .bytes(ck::CKA_START_DATE, &[])
            .bytes(ck::CKA_END_DATE, &[])
            .flags(true, &[ck::CKA_LOCAL])
            .bytes(ck::CKA_SUBJECT, subject_der)
            .bytes(ck::CKA_EC_PARAMS, &key.kind.ec_params()?)
            .bytes(ck::CKA_PUBLIC_KEY_INFO, &key.spki_der))
    }

    /// The public half.
    pub(crate) fn public(key: &Arc<Key>, subject_der: &[u8]) -> Result<Self> {
        let role = Role::Public(Arc::clone(key));
        let class = ck::CKO_PUBLIC_KEY;
        Ok(Self::new(role, class, &[key.label.as_bytes(), &key.digest])
            .on_token(false, &key.label, &key.id())
            .of_key_pair(key, subject_der)?
            .bytes(ck::CKA_EC_POINT, &key.ec_point()?)
            .flags(key.signs, &[ck::CKA_VERIFY])
            .flags(
                false,
                &[
                    ck::CKA_DERIVE,
                    ck::CKA_ENCRYPT,
                    ck::CKA_VERIFY_RECOVER,
                    ck::CKA_WRAP,
                    ck::CKA_TRUSTED,
                ],
            ))
    }

    /// The private half: what may be known of it.
    pub(crate) fn private(key: &Arc<Key>, subject_der: &[u8]) -> Result<Self> {
        let role = Role::Private(Arc::clone(key));
        let class = ck::CKO_PRIVATE_KEY;
        Ok(Self::new(role, class, &[key.label.as_bytes(), &key.digest])
            .on_token(true, &key.label, &key.id())
            .of_key_pair(key, subject_der)?
            .sensitive(ck::CKA_VALUE)
            .flags(key.signs, &[ck::CKA_SIGN])
            .flags(key.derives, &[ck::CKA_DERIVE])
            .flags(
                true,
                &[
                    ck::CKA_SENSITIVE,
                    ck::CKA_ALWAYS_SENSITIVE,
                    ck::CKA_NEVER_EXTRACTABLE,
                ],
            )
            .flags(
                false,
                &[
                    ck::CKA_EXTRACTABLE,
                    ck::CKA_DECRYPT,
                    ck::CKA_SIGN_RECOVER,
                    ck::CKA_UNWRAP,
                    ck::CKA_WRAP_WITH_TRUSTED,
                    ck::CKA_ALWAYS_AUTHENTICATE,
                ],
            ))
    }

    /// A certificate. Spec: PKCS #11 3.1 section 4.6.
    pub(crate) fn certificate(label: &str, cert: &CertView<'_>, leaf: bool) -> Result<Self> {
        let bad = |_| rv!(CKR_DEVICE_ERROR);
        let serial = IntRef::new(cert.serial)
            .and_then(|number| number.to_der())
            .map_err(bad)?;
        // CK_CERTIFICATE_CATEGORY_TOKEN_USER, CK_CERTIFICATE_CATEGORY_AUTHORITY.
        let category = if leaf { 1 } else { 2 };
        let class = ck::CKO_CERTIFICATE;
        // Programs look for an issuer by the identifier that its certificates name.
        let named = cert.subject_key_id().ok().flatten().filter(|_| !leaf);
        let id = named.map_or_else(|| key_id(cert.spki_der), <[u8]>::to_vec);
        Ok(
            Self::new(Role::Certificate, class, &[label.as_bytes(), cert.der])
                .on_token(false, label, &id)
                .number(ck::CKA_CERTIFICATE_TYPE, ck::CKC_X_509)
                .number(ck::CKA_CERTIFICATE_CATEGORY, category)
                .number(ck::CKA_JAVA_MIDP_SECURITY_DOMAIN, 0)
                .number(ck::CKA_NAME_HASH_ALGORITHM, ck::CKM_SHA_1)
                .flags(false, &[ck::CKA_TRUSTED])
                .bytes(ck::CKA_VALUE, cert.der)
                .bytes(ck::CKA_SUBJECT, cert.subject_der)
                .bytes(ck::CKA_ISSUER, cert.issuer_der)
                .bytes(ck::CKA_SERIAL_NUMBER, &serial)
                .bytes(ck::CKA_PUBLIC_KEY_INFO, cert.spki_der)
                .bytes(ck::CKA_START_DATE, &date(cert.not_before_secs))
                .bytes(ck::CKA_END_DATE, &date(cert.not_after_secs))
                .bytes(ck::CKA_URL, &[])
                .bytes(ck::CKA_HASH_OF_SUBJECT_PUBLIC_KEY, &[])
                .bytes(ck::CKA_HASH_OF_ISSUER_PUBLIC_KEY, &[]),
        )
    }

    /// A secret that was agreed on, as the template wants it. Spec: PKCS #11 3.1 section 6.3.17.
    pub(crate) fn secret(
        session: ck::CK_SESSION_HANDLE,
        mut shared: Zeroizing<Vec<u8>>,
        template: &Template,
        unique: &[u8],
    ) -> Result<Self> {
        let wanted = Wanted::read(template)?;
        if let Some(len) = wanted.len {
            // The truncation removes bytes from the leading end of the secret value.
            let surplus = shared.len().checked_sub(len).filter(|_| len > 0);
            let surplus = surplus.ok_or(rv!(CKR_ATTRIBUTE_VALUE_INVALID))?;
            shared = Zeroizing::new(shared.get(surplus..).unwrap_or_default().to_vec());
        }
        let role = Role::Secret { session };
        let shown = wanted.extractable && !wanted.sensitive;
        let value_len = crate::rv::ulong(shared.len());
        let mut object = Self::new(role, ck::CKO_SECRET_KEY, &[unique])
            .number(ck::CKA_KEY_TYPE, wanted.key_type)
            .number(ck::CKA_VALUE_LEN, value_len)
            .number(ck::CKA_KEY_GEN_MECHANISM, ck::CK_UNAVAILABLE_INFORMATION)
            .bytes(ck::CKA_LABEL, &wanted.label)
            .bytes(ck::CKA_ID, &wanted.id)
            .bytes(ck::CKA_START_DATE, &[])
            .bytes(ck::CKA_END_DATE, &[])
            .flags(wanted.private, &[ck::CKA_PRIVATE])
            .flags(wanted.sensitive, &[ck::CKA_SENSITIVE])
            .flags(wanted.extractable, &[ck::CKA_EXTRACTABLE])
            .flags(true, &[ck::CKA_DESTROYABLE])
            .flags(
                false,
                &[
                    ck::CKA_TOKEN,
                    ck::CKA_LOCAL,
                    ck::CKA_MODIFIABLE,
                    ck::CKA_COPYABLE,
                    ck::CKA_ALWAYS_SENSITIVE,
                    ck::CKA_NEVER_EXTRACTABLE,
                    ck::CKA_TRUSTED,
                    ck::CKA_WRAP_WITH_TRUSTED,
                ],
            );
        for kind in USES_OF_SECRETS {
            object = object.flags(wanted.uses.contains(kind), &[*kind]);
        }
        Ok(if shown {
            object.bytes(ck::CKA_VALUE, &shared)
        } else {
            object.sensitive(ck::CKA_VALUE)
        })
    }

    /// An attribute.
    ///
    /// # Errors
    /// `CKR_ATTRIBUTE_SENSITIVE`, `CKR_ATTRIBUTE_TYPE_INVALID`.
    pub(crate) fn attribute(&self, kind: ck::CK_ATTRIBUTE_TYPE) -> Result<&[u8]> {
        match self.attributes.iter().find(|(found, _)| *found == kind) {
            Some((_, Value::Bytes(bytes))) => Ok(bytes),
            Some((_, Value::Sensitive)) => Err(rv!(CKR_ATTRIBUTE_SENSITIVE)),
            None => Err(rv!(CKR_ATTRIBUTE_TYPE_INVALID)),
        }
    }

    /// True if every attribute of the template is there with this value.
    pub(crate) fn matches(&self, template: &Template) -> bool {
        template.iter().all(|(kind, value)| {
            self.attribute(*kind)
                .is_ok_and(|own| own == value.as_slice())
        })
    }

    /// Bytes of all attributes.
    pub(crate) fn size(&self) -> usize {
        self.attributes
            .iter()
            .map(|(_, value)| match value {
                Value::Bytes(bytes) => bytes.len(),
                Value::Sensitive => 0,
            })
            .sum()
    }
}

/// What a template asks of a derived secret.
struct Wanted {
    key_type: ck::CK_KEY_TYPE,
    len: Option<usize>,
    private: bool,
    sensitive: bool,
    extractable: bool,
    label: Vec<u8>,
    id: Vec<u8>,
    uses: Vec<ck::CK_ATTRIBUTE_TYPE>,
}

impl Wanted {
    fn read(template: &Template) -> Result<Self> {
        let mut wanted = Self {
            key_type: ck::CKK_GENERIC_SECRET,
            len: None,
            private: true,
            sensitive: false,
            extractable: true,
            label: Vec::new(),
            id: Vec::new(),
            uses: Vec::new(),
        };
        let mut seen: Vec<ck::CK_ATTRIBUTE_TYPE> = Vec::new();
        for (kind, value) in template {
            if seen.contains(kind) {
                return Err(rv!(CKR_TEMPLATE_INCONSISTENT));
            }
            seen.push(*kind);
            match *kind {
                ck::CKA_CLASS if number(value)? == ck::CKO_SECRET_KEY => {}
                ck::CKA_CLASS => return Err(rv!(CKR_TEMPLATE_INCONSISTENT)),
                ck::CKA_KEY_TYPE => {
                    wanted.key_type = number(value)?;
                    let known = [ck::CKK_GENERIC_SECRET, ck::CKK_AES, ck::CKK_HKDF];
                    if !known.contains(&wanted.key_type) {
                        return Err(rv!(CKR_ATTRIBUTE_VALUE_INVALID));
                    }
                }
                ck::CKA_VALUE_LEN => {
                    let len = usize::try_from(number(value)?);
                    wanted.len = Some(len.map_err(|_| rv!(CKR_ATTRIBUTE_VALUE_INVALID))?);
                }
                // The TEE keeps no secrets for clients.
                ck::CKA_TOKEN if truth(value)? => return Err(rv!(CKR_TEMPLATE_INCONSISTENT)),
                ck::CKA_TOKEN => {}
                ck::CKA_PRIVATE => wanted.private = truth(value)?,
                ck::CKA_SENSITIVE => wanted.sensitive = truth(value)?,
                ck::CKA_EXTRACTABLE => wanted.extractable = truth(value)?,
                ck::CKA_LABEL => wanted.label = short(value)?,
                ck::CKA_ID => wanted.id = short(value)?,
                ck::CKA_VALUE | ck::CKA_LOCAL | ck::CKA_KEY_GEN_MECHANISM | ck::CKA_UNIQUE_ID => {
                    return Err(rv!(CKR_ATTRIBUTE_READ_ONLY));
                }
                // Uses are noted; what is not extractable can do nothing here.
                use_ if USES_OF_SECRETS.contains(&use_) => {
                    if truth(value)? {
                        wanted.uses.push(use_);
                    }
                }
                ck::CKA_MODIFIABLE | ck::CKA_COPYABLE | ck::CKA_DESTROYABLE => {
                    truth(value)?;
                }
                _ => return Err(rv!(CKR_ATTRIBUTE_TYPE_INVALID)),
            }
        }
        if wanted.key_type == ck::CKK_AES {
            // An AES key is 16 bytes unless it was said otherwise.
            let len = *wanted.len.get_or_insert(16);
            if ![16, 24, 32].contains(&len) {
                return Err(rv!(CKR_TEMPLATE_INCONSISTENT));
            }
        }
        Ok(wanted)
    }
}

fn number(value: &[u8]) -> Result<ck::CK_ULONG> {
    let bytes = value.try_into();
    let bytes = bytes.map_err(|_| rv!(CKR_ATTRIBUTE_VALUE_INVALID))?;
    Ok(ck::CK_ULONG::from_ne_bytes(bytes))
}

fn truth(value: &[u8]) -> Result<bool> {
    match value {
        [0] => Ok(false),
        [1] => Ok(true),
        _ => Err(rv!(CKR_ATTRIBUTE_VALUE_INVALID)),
    }
}

fn short(value: &[u8]) -> Result<Vec<u8>> {
    if value.len() > NAME_LEN_BYTES_MAX {
        return Err(rv!(CKR_ATTRIBUTE_VALUE_INVALID));
    }
    Ok(value.to_vec())
}

/// `CK_DATE`: eight digits; empty if there is no such day, as in certificates without an end.
fn date(secs: u64) -> Vec<u8> {
    let found = DateTime::from_unix_duration(core::time::Duration::from_secs(secs));
    match found {
        Ok(day) if day.year() < 9999 => {
            format!("{:04}{:02}{:02}", day.year(), day.month(), day.day()).into_bytes()
        }
        _ => Vec::new(),
    }
}

/// An attribute cannot be given: which of the two reasons tells the caller.
pub(crate) const fn is_unavailable(rv: Rv) -> bool {
    matches!(
        rv.0,
        ck::CKR_ATTRIBUTE_SENSITIVE | ck::CKR_ATTRIBUTE_TYPE_INVALID
    )
}

/// Uses that programs ask for in the template of a derived secret.
const USES_OF_SECRETS: &[ck::CK_ATTRIBUTE_TYPE] = &[
    ck::CKA_ENCRYPT,
    ck::CKA_DECRYPT,
    ck::CKA_SIGN,
    ck::CKA_VERIFY,
    ck::CKA_WRAP,
    ck::CKA_UNWRAP,
    ck::CKA_DERIVE,
];
/// Longest label or identifier of a session object, in bytes.
const NAME_LEN_BYTES_MAX: usize = 256;
