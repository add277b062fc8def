//! Proof types cannot be made by hand. Each example here must fail to compile, for the private
//! field alone: the first one is the same code with nothing forged, and compiles.
//!
//! ```
//! use tegata_crypto::chain::VerifiedChain;
//! fn takes(chain: VerifiedChain) -> Vec<u8> { chain.leaf_der().to_vec() }
//! ```
//! ```compile_fail,E0451
//! use tegata_crypto::cose::VerifiedSign1;
//! fn forge(other: VerifiedSign1) -> VerifiedSign1 { VerifiedSign1 { payload: vec![], ..other } }
//! ```
//! ```compile_fail,E0451
//! use tegata_crypto::chain::VerifiedChain;
//! fn forge(other: VerifiedChain) -> VerifiedChain { VerifiedChain { path: vec![], ..other } }
//! ```
//! ```compile_fail,E0451
//! use tegata_crypto::cmp::{MacKind, MacVerified};
//! fn forge() -> MacVerified { MacVerified { kind: MacKind::Hmac } }
//! ```
//! ```compile_fail,E0451
//! use tegata_crypto::{PublicKey, cmp::SignatureVerified};
//! fn forge(key: PublicKey) -> SignatureVerified { SignatureVerified { key } }
//! ```
//! ```compile_fail,E0451
//! use tegata_crypto::{PublicKey, suit::VerifiedEnvelope};
//! use tegata_wire::suit::CheckedEnvelope;
//! fn forge(envelope: CheckedEnvelope, key: PublicKey) -> VerifiedEnvelope {
//!     VerifiedEnvelope { envelope, key }
//! }
//! ```
//! ```compile_fail,E0451
//! use tegata_crypto::{PublicKey, csr::Csr};
//! use tegata_wire::x509::AllegedCsr;
//! fn forge(alleged: AllegedCsr, public_key: PublicKey) -> Csr { Csr { alleged, public_key } }
//! ```
//! ```compile_fail,E0451
//! use tegata_crypto::provisioning::VerifiedReport;
//! fn forge(other: VerifiedReport) -> VerifiedReport { VerifiedReport { digest: [0; 32], ..other } }
//! ```
//! ```compile_fail,E0451
//! use tegata_crypto::provisioning::VerifiedRecord;
//! use tegata_wire::device::DeviceRecord;
//! fn forge(record: DeviceRecord) -> VerifiedRecord { VerifiedRecord { record } }
//! ```
//! Nor copied, nor defaulted, nor is a secret shown or copied unawares:
//! ```compile_fail,E0599
//! fn twice(proof: tegata_crypto::cmp::MacVerified) { let _ = (proof.clone(), proof); }
//! ```
//! ```compile_fail,E0277
//! fn needs_default<T: Default>() {}
//! needs_default::<tegata_crypto::csr::Csr>();
//! ```
//! ```compile_fail,E0599
//! fn twice(secret: tegata_crypto::Secret<[u8; 32]>) { let _ = secret.clone(); }
//! ```
//! ```compile_fail,E0369
//! fn same(a: tegata_crypto::Secret<[u8; 32]>, b: tegata_crypto::Secret<[u8; 32]>) -> bool { a == b }
//! ```
//! ```compile_fail,E0616
//! fn inside(secret: tegata_crypto::Secret<[u8; 32]>) -> [u8; 32] { secret.0 }
//! ```
