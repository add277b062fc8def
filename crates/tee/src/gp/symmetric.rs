//! Digests, MACs, ciphers and authenticated encryption.
//!
//! Spec: TEE Internal Core API 1.3.1 sections 6.3 to 6.6.
//!
//! Authenticated decryption gives nothing out before the tag is checked: `TEE_AEUpdate` only
//! collects, and the final call gives the whole payload. GP allows this ("no output is generated
//! unless sufficient input has been supplied") and it saves TAs from using forged plaintext.

use alloc::vec::Vec;

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::AeadInOut;
use cipher::consts::{U4, U6, U7, U8, U10, U11, U12, U13, U14, U16};
use cipher::{
    BlockModeDecrypt, BlockModeEncrypt, KeyInit, KeyIvInit, StreamCipher, StreamCipherSeek,
};
use cmac::Cmac;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::consts::*;
use super::fail::{Fail, Res, code, panic_with};
use super::keys;
use super::operation::{Key, Operation, chunk};
use super::state::Ctx;

/// The running state of an operation.
#[derive(Clone)]
#[allow(clippy::large_enum_variant)] // An instance has 64 at most.
pub enum Active {
    /// Nothing begun.
    Idle,
    /// A digest; the flag says whether data went in.
    Digest(AnyDigest, bool),
    /// A finished digest that is given out in parts: the bytes left.
    Extracting(Vec<u8>),
    /// A MAC.
    Mac(AnyMac),
    /// A cipher with the bytes of an unfinished block.
    Cipher(CipherState, Zeroizing<Vec<u8>>),
    /// Authenticated encryption.
    Ae(ActiveAe),
}

/// A hash function with its state.
#[derive(Clone)]
pub enum AnyDigest {
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-384.
    Sha384(Sha384),
    /// SHA-512.
    Sha512(Sha512),
}

/// A MAC with its state.
#[derive(Clone)]
pub enum AnyMac {
    /// HMAC with SHA-256.
    Hmac256(Hmac<Sha256>),
    /// HMAC with SHA-384.
    Hmac384(Hmac<Sha384>),
    /// HMAC with SHA-512.
    Hmac512(Hmac<Sha512>),
    /// CMAC with AES-128.
    Cmac128(Cmac<Aes128>),
    /// CMAC with AES-192.
    Cmac192(Cmac<Aes192>),
    /// CMAC with AES-256.
    Cmac256(Cmac<Aes256>),
}

/// What an authenticated encryption has collected.
#[derive(Clone)]
pub struct ActiveAe {
    pub(super) nonce: Vec<u8>,
    pub(super) tag_len: usize,
    /// AES-CCM announces both lengths.
    pub(super) announced: Option<(u32, u32)>,
    pub(super) aad: Vec<u8>,
    pub(super) payload: Zeroizing<Vec<u8>>,
}

impl Active {
    /// The state after allocation or reset.
    #[must_use]
    pub fn idle(algorithm: u32) -> Self {
        match algorithm {
            TEE_ALG_SHA256 => Self::Digest(AnyDigest::Sha256(Sha256::new()), false),
            TEE_ALG_SHA384 => Self::Digest(AnyDigest::Sha384(Sha384::new()), false),
            TEE_ALG_SHA512 => Self::Digest(AnyDigest::Sha512(Sha512::new()), false),
            _ => Self::Idle,
        }
    }

    /// True if an Init function has run.
    #[must_use]
    pub const fn is_initialized(&self) -> bool {
        matches!(self, Self::Mac(_) | Self::Cipher(..) | Self::Ae(_))
    }

    /// True if data has gone in.
    #[must_use]
    pub const fn is_active(&self) -> bool {
        match self {
            Self::Idle => false,
            Self::Digest(_, begun) => *begun,
            _ => true,
        }
    }
}

impl AnyDigest {
    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Sha256(d) => d.update(data),
            Self::Sha384(d) => d.update(data),
            Self::Sha512(d) => d.update(data),
        }
    }

    fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(d) => d.finalize().to_vec(),
            Self::Sha384(d) => d.finalize().to_vec(),
            Self::Sha512(d) => d.finalize().to_vec(),
        }
    }
}

impl AnyMac {
    fn new(algorithm: u32, key: &[u8]) -> Res<Self> {
        let bad = Fail::Panic(TEE_ERROR_BAD_STATE);
        Ok(match (algorithm, key.len()) {
            (TEE_ALG_HMAC_SHA256, _) => Self::Hmac256(KeyInit::new_from_slice(key).or(Err(bad))?),
            (TEE_ALG_HMAC_SHA384, _) => Self::Hmac384(KeyInit::new_from_slice(key).or(Err(bad))?),
            (TEE_ALG_HMAC_SHA512, _) => Self::Hmac512(KeyInit::new_from_slice(key).or(Err(bad))?),
            (TEE_ALG_AES_CMAC, 16) => Self::Cmac128(KeyInit::new_from_slice(key).or(Err(bad))?),
            (TEE_ALG_AES_CMAC, 24) => Self::Cmac192(KeyInit::new_from_slice(key).or(Err(bad))?),
            (TEE_ALG_AES_CMAC, 32) => Self::Cmac256(KeyInit::new_from_slice(key).or(Err(bad))?),
            _ => return Err(bad),
        })
    }

    fn update(&mut self, data: &[u8]) {
        match self {
            Self::Hmac256(m) => m.update(data),
            Self::Hmac384(m) => m.update(data),
            Self::Hmac512(m) => m.update(data),
            Self::Cmac128(m) => m.update(data),
            Self::Cmac192(m) => m.update(data),
            Self::Cmac256(m) => m.update(data),
        }
    }

    fn finish(self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Hmac256(m) => m.finalize().into_bytes().to_vec(),
            Self::Hmac384(m) => m.finalize().into_bytes().to_vec(),
            Self::Hmac512(m) => m.finalize().into_bytes().to_vec(),
            Self::Cmac128(m) => m.finalize().into_bytes().to_vec(),
            Self::Cmac192(m) => m.finalize().into_bytes().to_vec(),
            Self::Cmac256(m) => m.finalize().into_bytes().to_vec(),
        })
    }
}

/// `TEE_DigestUpdate`.
pub fn digest_update(c: &mut Ctx<'_>, operation: u32, ptr: u32, len: u32) -> Res {
    c.st.charge_bytes(len);
    let op = c.st.operations.get_mut(operation)?;
    let Active::Digest(digest, begun) = &mut op.active else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    digest.update(chunk(&c.mem, ptr, len)?);
    *begun = true;
    Ok(())
}

/// `TEE_DigestDoFinal`: back to the initial state, unless the room was too small.
pub fn digest_do_final(
    c: &mut Ctx<'_>,
    operation: u32,
    ptr: u32,
    len: u32,
    hash: u32,
    hash_len: u32,
) -> Res {
    c.st.charge_bytes(len);
    let op = c.st.operations.get_mut(operation)?;
    let value = match &op.active {
        Active::Digest(digest, _) => {
            let mut digest = digest.clone();
            digest.update(chunk(&c.mem, ptr, len)?);
            digest.finish()
        }
        Active::Extracting(rest) if len == 0 => rest.clone(),
        _ => return panic_with(TEE_ERROR_BAD_STATE),
    };
    c.mem.out_buffer(hash, hash_len, &value)?;
    op.active = Active::idle(op.algorithm);
    Ok(())
}

/// `TEE_DigestExtract`: the digest in parts.
pub fn digest_extract(c: &mut Ctx<'_>, operation: u32, hash: u32, hash_len: u32) -> Res {
    let op = c.st.operations.get_mut(operation)?;
    let mut rest = match &op.active {
        Active::Digest(digest, _) => digest.clone().finish(),
        Active::Extracting(rest) => rest.clone(),
        _ => return panic_with(TEE_ERROR_BAD_STATE),
    };
    let room = usize::try_from(c.mem.out_room(hash, hash_len)?).unwrap_or(usize::MAX);
    let later = rest.split_off(room.min(rest.len()));
    c.mem.out_buffer(hash, hash_len, &rest)?;
    op.active = Active::Extracting(later);
    Ok(())
}

fn mac_key(op: &Operation) -> Res<AnyMac> {
    AnyMac::new(
        op.algorithm,
        keys::buffer(&op.key()?.attributes, TEE_ATTR_SECRET_VALUE)?,
    )
}

/// `TEE_MACInit`: no MAC of this TEE has an IV; what is given is ignored, as GP says.
pub fn mac_init(c: &mut Ctx<'_>, operation: u32, _iv: u32, _iv_len: u32) -> Res {
    let op = c.st.operations.get_mut(operation)?;
    op.expect(TEE_OPERATION_MAC, None)?;
    op.active = Active::Mac(mac_key(op)?);
    Ok(())
}

/// `TEE_MACUpdate`.
pub fn mac_update(c: &mut Ctx<'_>, operation: u32, ptr: u32, len: u32) -> Res {
    c.st.charge_bytes(len);
    let Active::Mac(mac) = &mut c.st.operations.get_mut(operation)?.active else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    mac.update(chunk(&c.mem, ptr, len)?);
    Ok(())
}

fn mac_value(c: &Ctx<'_>, operation: u32, ptr: u32, len: u32) -> Res<Zeroizing<Vec<u8>>> {
    let Active::Mac(mac) = &c.st.operations.get(operation)?.active else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    let mut mac = mac.clone();
    mac.update(chunk(&c.mem, ptr, len)?);
    Ok(mac.finish())
}

/// `TEE_MACComputeFinal`.
pub fn mac_compute_final(
    c: &mut Ctx<'_>,
    operation: u32,
    ptr: u32,
    len: u32,
    mac: u32,
    mac_len: u32,
) -> Res {
    c.st.charge_bytes(len);
    let value = mac_value(c, operation, ptr, len)?;
    c.mem.out_buffer(mac, mac_len, &value)?;
    c.st.operations.get_mut(operation)?.active = Active::Idle;
    Ok(())
}

/// `TEE_MACCompareFinal`, in constant time.
pub fn mac_compare_final(
    c: &mut Ctx<'_>,
    operation: u32,
    ptr: u32,
    len: u32,
    mac: u32,
    mac_len: u32,
) -> Res {
    c.st.charge_bytes(len);
    let value = mac_value(c, operation, ptr, len)?;
    let same: bool = value.as_slice().ct_eq(c.mem.bytes(mac, mac_len)?).into();
    c.st.operations.get_mut(operation)?.active = Active::Idle;
    if same {
        Ok(())
    } else {
        code(TEE_ERROR_MAC_INVALID)
    }
}

/// A cipher between two calls: where its chain or key stream stands.
#[derive(Clone)]
pub struct CipherState {
    algorithm: u32,
    mode: u32,
    /// CBC: the last block of ciphertext; CTR: the first counter block.
    iv: Zeroizing<Vec<u8>>,
    /// CTR: bytes of key stream used.
    position: u64,
}

impl CipherState {
    const fn is_stream(&self) -> bool {
        self.algorithm == TEE_ALG_AES_CTR
    }

    /// Transforms `data` (whole blocks, unless a stream) in place and moves on.
    fn process(&mut self, key: &[u8], data: &mut [u8]) -> Res {
        match (self.algorithm, self.mode, key.len()) {
            (TEE_ALG_AES_CTR, _, 16) => self.ctr::<ctr::Ctr128BE<Aes128>>(key, data),
            (TEE_ALG_AES_CTR, _, 24) => self.ctr::<ctr::Ctr128BE<Aes192>>(key, data),
            (TEE_ALG_AES_CTR, _, 32) => self.ctr::<ctr::Ctr128BE<Aes256>>(key, data),
            (_, TEE_MODE_ENCRYPT, 16) => self.encrypt::<cbc::Encryptor<Aes128>>(key, data),
            (_, TEE_MODE_ENCRYPT, 24) => self.encrypt::<cbc::Encryptor<Aes192>>(key, data),
            (_, TEE_MODE_ENCRYPT, 32) => self.encrypt::<cbc::Encryptor<Aes256>>(key, data),
            (_, TEE_MODE_DECRYPT, 16) => self.decrypt::<cbc::Decryptor<Aes128>>(key, data),
            (_, TEE_MODE_DECRYPT, 24) => self.decrypt::<cbc::Decryptor<Aes192>>(key, data),
            (_, TEE_MODE_DECRYPT, 32) => self.decrypt::<cbc::Decryptor<Aes256>>(key, data),
            _ => panic_with(TEE_ERROR_BAD_STATE),
        }
    }

    fn ctr<C: KeyIvInit + StreamCipher + StreamCipherSeek>(
        &mut self,
        key: &[u8],
        data: &mut [u8],
    ) -> Res {
        // The counter may not come round: that would repeat the key stream.
        let overflow = Fail::Panic(TEE_ERROR_OVERFLOW);
        let mut cipher = C::new_from_slices(key, &self.iv).or(Err(BAD_STATE))?;
        cipher.try_seek(self.position).or(Err(overflow))?;
        cipher.try_apply_keystream(data).or(Err(overflow))?;
        let len = u64::try_from(data.len()).or(Err(overflow))?;
        self.position = self.position.checked_add(len).ok_or(overflow)?;
        Ok(())
    }

    fn encrypt<C: KeyIvInit + BlockModeEncrypt<BlockSize = U16>>(
        &mut self,
        key: &[u8],
        data: &mut [u8],
    ) -> Res {
        let mut cipher = C::new_from_slices(key, &self.iv).or(Err(BAD_STATE))?;
        for block in data.chunks_exact_mut(16) {
            cipher.encrypt_block(block.try_into().or(Err(BAD_STATE))?);
        }
        self.chain(data)
    }

    fn decrypt<C: KeyIvInit + BlockModeDecrypt<BlockSize = U16>>(
        &mut self,
        key: &[u8],
        data: &mut [u8],
    ) -> Res {
        let ciphertext = data.to_vec();
        let mut cipher = C::new_from_slices(key, &self.iv).or(Err(BAD_STATE))?;
        for block in data.chunks_exact_mut(16) {
            cipher.decrypt_block(block.try_into().or(Err(BAD_STATE))?);
        }
        self.chain(&ciphertext)
    }

    fn chain(&mut self, ciphertext: &[u8]) -> Res {
        if let Some(last) = ciphertext.rchunks_exact(16).next() {
            self.iv = Zeroizing::new(last.to_vec());
        }
        Ok(())
    }
}

const BAD_STATE: Fail = Fail::Panic(TEE_ERROR_BAD_STATE);

fn aes_key(key: &Key) -> Res<&[u8]> {
    keys::buffer(&key.attributes, TEE_ATTR_SECRET_VALUE)
}

/// `TEE_CipherInit`: the IV is 16 bytes.
pub fn cipher_init(c: &mut Ctx<'_>, operation: u32, iv: u32, iv_len: u32) -> Res {
    let iv = Zeroizing::new(chunk(&c.mem, iv, iv_len)?.to_vec());
    let op = c.st.operations.get_mut(operation)?;
    op.expect(TEE_OPERATION_CIPHER, None)?;
    op.key()?;
    if iv.len() != 16 {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    let state = CipherState {
        algorithm: op.algorithm,
        mode: op.mode,
        iv,
        position: 0,
    };
    op.active = Active::Cipher(state, Zeroizing::new(Vec::new()));
    Ok(())
}

fn cipher_step(
    c: &mut Ctx<'_>,
    operation: u32,
    (src, src_len): (u32, u32),
    (dest, dest_len): (u32, u32),
    last: bool,
) -> Res {
    c.st.charge_bytes(src_len);
    let op = c.st.operations.get_mut(operation)?;
    let Active::Cipher(cipher, pending) = &op.active else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    let mut data = pending.clone();
    data.extend_from_slice(chunk(&c.mem, src, src_len)?);
    let whole = if cipher.is_stream() {
        data.len()
    } else {
        data.len() - data.len() % 16
    };
    if last && whole != data.len() {
        // NOPAD: the caller must give whole blocks in all.
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    let rest = Zeroizing::new(data.split_off(whole));
    let room = usize::try_from(c.mem.out_room(dest, dest_len)?).unwrap_or(usize::MAX);
    let mut cipher = cipher.clone();
    if room >= whole {
        cipher.process(aes_key(op.key()?)?, &mut data)?;
    }
    c.mem.out_buffer(dest, dest_len, &data)?;
    op.active = if last {
        Active::Idle
    } else {
        Active::Cipher(cipher, rest)
    };
    Ok(())
}

/// `TEE_CipherUpdate`.
pub fn cipher_update(
    c: &mut Ctx<'_>,
    operation: u32,
    src: u32,
    src_len: u32,
    dest: u32,
    dest_len: u32,
) -> Res {
    cipher_step(c, operation, (src, src_len), (dest, dest_len), false)
}

/// `TEE_CipherDoFinal`.
pub fn cipher_do_final(
    c: &mut Ctx<'_>,
    operation: u32,
    src: u32,
    src_len: u32,
    dest: u32,
    dest_len: u32,
) -> Res {
    cipher_step(c, operation, (src, src_len), (dest, dest_len), true)
}

/// `TEE_AEInit`.
pub fn ae_init(
    c: &mut Ctx<'_>,
    operation: u32,
    nonce: u32,
    nonce_len: u32,
    tag_bits: u32,
    aad_len: u32,
    payload_len: u32,
) -> Res {
    let op = c.st.operations.get_mut(operation)?;
    op.expect(TEE_OPERATION_AE, None)?;
    op.key()?;
    if op.active.is_initialized() {
        return panic_with(TEE_ERROR_BAD_STATE);
    }
    let nonce = chunk(&c.mem, nonce, nonce_len)?.to_vec();
    let (tags, nonces, announced): (&[u32], _, _) = match op.algorithm {
        // GCM with any other nonce length hashes the nonce: allowed by GP, but a trap.
        TEE_ALG_AES_GCM => (&[96, 104, 112, 120, 128], 12..=12, None),
        _ => (
            &[32, 48, 64, 80, 96, 112, 128],
            7..=13,
            Some((aad_len, payload_len)),
        ),
    };
    if !tags.contains(&tag_bits) || !nonces.contains(&nonce.len()) {
        return code(TEE_ERROR_NOT_SUPPORTED);
    }
    let tag_len = usize::try_from(tag_bits / 8).map_err(|_| Fail::Panic(TEE_ERROR_OVERFLOW))?;
    op.active = Active::Ae(ActiveAe {
        nonce,
        tag_len,
        announced,
        aad: Vec::new(),
        payload: Zeroizing::new(Vec::new()),
    });
    Ok(())
}

/// `TEE_AEUpdateAAD`.
pub fn ae_update_aad(c: &mut Ctx<'_>, operation: u32, ptr: u32, len: u32) -> Res {
    c.st.charge_bytes(len);
    let Active::Ae(ae) = &mut c.st.operations.get_mut(operation)?.active else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    let data = chunk(&c.mem, ptr, len)?;
    if !ae.payload.is_empty() || ae.aad.len().saturating_add(data.len()) > AE_LEN_MAX {
        return panic_with(TEE_ERROR_BAD_STATE);
    }
    ae.aad.extend_from_slice(data);
    Ok(())
}

/// `TEE_AEUpdate`: collects; see the head of the module.
pub fn ae_update(
    c: &mut Ctx<'_>,
    operation: u32,
    src: u32,
    src_len: u32,
    dest: u32,
    dest_len: u32,
) -> Res {
    c.st.charge_bytes(src_len);
    let Active::Ae(ae) = &mut c.st.operations.get_mut(operation)?.active else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    let data = chunk(&c.mem, src, src_len)?;
    if ae.payload.len().saturating_add(data.len()) > AE_LEN_MAX {
        return panic_with(TEE_ERROR_OUT_OF_MEMORY);
    }
    ae.payload.extend_from_slice(data);
    c.mem.out_buffer(dest, dest_len, &[])
}

fn ae_ready(c: &Ctx<'_>, operation: u32, src: u32, len: u32, mode: u32) -> Res<(Key, ActiveAe)> {
    let op = c.st.operations.get(operation)?;
    op.expect(TEE_OPERATION_AE, Some(mode))?;
    let Active::Ae(ae) = &op.active else {
        return panic_with(TEE_ERROR_BAD_STATE);
    };
    let mut ae = ae.clone();
    let data = chunk(&c.mem, src, len)?;
    if ae.payload.len().saturating_add(data.len()) > AE_LEN_MAX {
        return panic_with(TEE_ERROR_OUT_OF_MEMORY);
    }
    ae.payload.extend_from_slice(data);
    let lengths = (u32::try_from(ae.aad.len()), u32::try_from(ae.payload.len()));
    if ae
        .announced
        .is_some_and(|(aad, payload)| lengths != (Ok(aad), Ok(payload)))
    {
        return panic_with(TEE_ERROR_BAD_PARAMETERS);
    }
    Ok((op.key()?.clone(), ae))
}

/// `TEE_AEEncryptFinal`.
#[allow(clippy::too_many_arguments)] // The standard's own signature.
pub fn ae_encrypt_final(
    c: &mut Ctx<'_>,
    operation: u32,
    src: u32,
    src_len: u32,
    dest: u32,
    dest_len: u32,
    tag: u32,
    tag_len: u32,
) -> Res {
    c.st.charge_bytes(src_len);
    let (key, mut ae) = ae_ready(c, operation, src, src_len, TEE_MODE_ENCRYPT)?;
    let algorithm = c.st.operations.get(operation)?.algorithm;
    let (room, tag_room) = (
        c.mem.out_room(dest, dest_len)?,
        c.mem.out_room(tag, tag_len)?,
    );
    let needed = (u32::try_from(ae.payload.len()), u32::try_from(ae.tag_len));
    let (Ok(payload_len), Ok(tag_needed)) = needed else {
        return panic_with(TEE_ERROR_OVERFLOW);
    };
    if room < payload_len || tag_room < tag_needed {
        c.mem.put_u32(dest_len, payload_len)?;
        c.mem.put_u32(tag_len, tag_needed)?;
        return code(TEE_ERROR_SHORT_BUFFER);
    }
    let made = seal(algorithm, aes_key(&key)?, &mut ae)?;
    c.mem.out_buffer(dest, dest_len, &ae.payload)?;
    c.mem.out_buffer(tag, tag_len, &made)?;
    c.st.operations.get_mut(operation)?.active = Active::Idle;
    Ok(())
}

/// `TEE_AEDecryptFinal`: nothing is written unless the tag is right.
#[allow(clippy::too_many_arguments)] // The standard's own signature.
pub fn ae_decrypt_final(
    c: &mut Ctx<'_>,
    operation: u32,
    src: u32,
    src_len: u32,
    dest: u32,
    dest_len: u32,
    tag: u32,
    tag_len: u32,
) -> Res {
    c.st.charge_bytes(src_len);
    let (key, mut ae) = ae_ready(c, operation, src, src_len, TEE_MODE_DECRYPT)?;
    let algorithm = c.st.operations.get(operation)?.algorithm;
    let room = usize::try_from(c.mem.out_room(dest, dest_len)?).unwrap_or(usize::MAX);
    let expected = c.mem.copy(tag, tag_len)?;
    if room < ae.payload.len() {
        return c.mem.out_buffer(dest, dest_len, &ae.payload);
    }
    let opened =
        expected.len() == ae.tag_len && open(algorithm, aes_key(&key)?, &mut ae, &expected)?;
    c.st.operations.get_mut(operation)?.active = Active::Idle;
    if !opened {
        return code(TEE_ERROR_MAC_INVALID);
    }
    c.mem.out_buffer(dest, dest_len, &ae.payload)
}

/// Runs `$go` with the AEAD type of a key, tag and nonce length.
macro_rules! aead {
    ($algorithm:expr, $key:expr, $ae:expr, $go:ident ( $($arg:expr),* )) => {{
        macro_rules! gcm_tag {
            ($aes:ty) => {
                match $ae.tag_len {
                    12 => $go::<aes_gcm::AesGcm<$aes, U12, U12>>($($arg),*),
                    13 => $go::<aes_gcm::AesGcm<$aes, U12, U13>>($($arg),*),
                    14 => $go::<aes_gcm::AesGcm<$aes, U12, U14>>($($arg),*),
                    15 => $go::<aes_gcm::AesGcm<$aes, U12, cipher::consts::U15>>($($arg),*),
                    16 => $go::<aes_gcm::AesGcm<$aes, U12, U16>>($($arg),*),
                    _ => panic_with(TEE_ERROR_BAD_STATE),
                }
            };
        }
        macro_rules! ccm_nonce {
            ($aes:ty, $tag:ty) => {
                match $ae.nonce.len() {
                    7 => $go::<ccm::Ccm<$aes, $tag, U7>>($($arg),*),
                    8 => $go::<ccm::Ccm<$aes, $tag, U8>>($($arg),*),
                    9 => $go::<ccm::Ccm<$aes, $tag, cipher::consts::U9>>($($arg),*),
                    10 => $go::<ccm::Ccm<$aes, $tag, U10>>($($arg),*),
                    11 => $go::<ccm::Ccm<$aes, $tag, U11>>($($arg),*),
                    12 => $go::<ccm::Ccm<$aes, $tag, U12>>($($arg),*),
                    13 => $go::<ccm::Ccm<$aes, $tag, U13>>($($arg),*),
                    _ => panic_with(TEE_ERROR_BAD_STATE),
                }
            };
        }
        macro_rules! ccm_tag {
            ($aes:ty) => {
                match $ae.tag_len {
                    4 => ccm_nonce!($aes, U4),
                    6 => ccm_nonce!($aes, U6),
                    8 => ccm_nonce!($aes, U8),
                    10 => ccm_nonce!($aes, U10),
                    12 => ccm_nonce!($aes, U12),
                    14 => ccm_nonce!($aes, U14),
                    16 => ccm_nonce!($aes, U16),
                    _ => panic_with(TEE_ERROR_BAD_STATE),
                }
            };
        }
        match ($algorithm, $key.len()) {
            (TEE_ALG_AES_GCM, 16) => gcm_tag!(Aes128),
            (TEE_ALG_AES_GCM, 24) => gcm_tag!(Aes192),
            (TEE_ALG_AES_GCM, 32) => gcm_tag!(Aes256),
            (TEE_ALG_AES_CCM, 16) => ccm_tag!(Aes128),
            (TEE_ALG_AES_CCM, 24) => ccm_tag!(Aes192),
            (TEE_ALG_AES_CCM, 32) => ccm_tag!(Aes256),
            _ => panic_with(TEE_ERROR_BAD_STATE),
        }
    }};
}

fn seal(algorithm: u32, key: &[u8], ae: &mut ActiveAe) -> Res<Vec<u8>> {
    fn go<A: AeadInOut + KeyInit>(key: &[u8], ae: &mut ActiveAe) -> Res<Vec<u8>> {
        let bad = Fail::Panic(TEE_ERROR_BAD_STATE);
        let aead = A::new_from_slice(key).or(Err(bad))?;
        let nonce = ae.nonce.as_slice().try_into().or(Err(bad))?;
        aead.encrypt_inout_detached(nonce, &ae.aad, ae.payload.as_mut_slice().into())
            .map(|tag| tag.to_vec())
            .or(Err(Fail::Panic(TEE_ERROR_OVERFLOW)))
    }
    aead!(algorithm, key, ae, go(key, ae))
}

fn open(algorithm: u32, key: &[u8], ae: &mut ActiveAe, tag: &[u8]) -> Res<bool> {
    fn go<A: AeadInOut + KeyInit>(key: &[u8], ae: &mut ActiveAe, tag: &[u8]) -> Res<bool> {
        let bad = Fail::Panic(TEE_ERROR_BAD_STATE);
        let aead = A::new_from_slice(key).or(Err(bad))?;
        let nonce = ae.nonce.as_slice().try_into().or(Err(bad))?;
        let tag = tag.try_into().or(Err(bad))?;
        Ok(aead
            .decrypt_inout_detached(nonce, &ae.aad, ae.payload.as_mut_slice().into(), tag)
            .is_ok())
    }
    aead!(algorithm, key, ae, go(key, ae, tag))
}

/// Most bytes of payload, and of associated data, in one authenticated encryption.
const AE_LEN_MAX: usize = 512 * 1024;
