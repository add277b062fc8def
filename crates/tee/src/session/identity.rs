//! Who calls: GP login types and the UUIDs of users, groups and programs.
//!
//! The UUID of a user or group is that of the Linux TEE subsystem, so that an access list made for
//! one backend holds on the other. Spec: docs/spec/ta-module.md section "Callers".

use alloc::format;

use tegata_wire::ids::{Digest, TaUuid};
use uuid::Uuid;

use crate::gp::consts::*;
use crate::session::launch::ClientIdentity;

/// Namespace of client UUIDs, the Linux kernel's.
pub const CLIENT_NAMESPACE: Uuid = Uuid::from_u128(0x58ac_9ca0_2086_4683_a1b8_ec4b_c08e_01b6);

fn named(login: u32, name: &str) -> ClientIdentity {
    ClientIdentity {
        login,
        uuid: Uuid::new_v5(&CLIENT_NAMESPACE, name.as_bytes()).into_bytes(),
    }
}

impl ClientIdentity {
    /// `TEE_LOGIN_PUBLIC`: anyone; the nil UUID.
    #[must_use]
    pub const fn public() -> Self {
        Self {
            login: TEE_LOGIN_PUBLIC,
            uuid: [0; 16],
        }
    }

    /// `TEE_LOGIN_USER`: this user of the REE.
    #[must_use]
    pub fn user(uid: u32) -> Self {
        named(TEE_LOGIN_USER, &format!("uid={uid:x}"))
    }

    /// `TEE_LOGIN_GROUP`: a group that the caller was found to be in.
    #[must_use]
    pub fn group(gid: u32) -> Self {
        named(TEE_LOGIN_GROUP, &format!("gid={gid:x}"))
    }

    /// `TEE_LOGIN_APPLICATION`: this program, by the digest of its executable.
    #[must_use]
    pub fn application(executable: &Digest) -> Self {
        named(TEE_LOGIN_APPLICATION, &format!("app={executable}"))
    }

    /// `TEE_LOGIN_APPLICATION_USER`: this program run by this user.
    #[must_use]
    pub fn application_user(executable: &Digest, uid: u32) -> Self {
        named(
            TEE_LOGIN_APPLICATION_USER,
            &format!("uid={uid:x}:app={executable}"),
        )
    }

    /// `TEE_LOGIN_APPLICATION_GROUP`: this program run in this group.
    #[must_use]
    pub fn application_group(executable: &Digest, gid: u32) -> Self {
        named(
            TEE_LOGIN_APPLICATION_GROUP,
            &format!("gid={gid:x}:app={executable}"),
        )
    }

    /// `TEE_LOGIN_TRUSTED_APP`: another TA. Only the session manager makes this.
    #[must_use]
    pub(super) const fn trusted_app(ta: &TaUuid) -> Self {
        Self {
            login: TEE_LOGIN_TRUSTED_APP,
            uuid: *ta.as_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    fn text(identity: ClientIdentity) -> alloc::string::String {
        Uuid::from_bytes(identity.uuid).hyphenated().to_string()
    }

    /// The first two were read from a running OP-TEE 4.10 on Linux 6.1, the third computed.
    #[test]
    fn users_and_groups_have_the_kernels_uuids() {
        assert_eq!(
            text(ClientIdentity::user(0)),
            "ef0180a3-13f3-5d1c-b7f5-888c0e21059a"
        );
        assert_eq!(
            text(ClientIdentity::group(0)),
            "d93bc168-f863-58d3-a1fe-bb2039421b99"
        );
        assert_eq!(
            text(ClientIdentity::user(0x3e8)),
            "fc34275c-d8dd-5ba7-968b-504718363b87"
        );
        assert_eq!(ClientIdentity::public().uuid, [0; 16]);
    }

    #[test]
    fn programs_differ_by_digest_user_and_login() {
        let (a, b) = (Digest([1; 32]), Digest([2; 32]));
        assert_ne!(
            ClientIdentity::application(&a),
            ClientIdentity::application(&b)
        );
        assert_ne!(
            ClientIdentity::application_user(&a, 1),
            ClientIdentity::application_user(&a, 2)
        );
        assert_ne!(
            ClientIdentity::application(&a),
            ClientIdentity::application_user(&a, 0)
        );
        assert_ne!(ClientIdentity::user(5).uuid, ClientIdentity::group(5).uuid);
    }
}
