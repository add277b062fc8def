//! What must hold after every operation, whatever happened. Each has a name, and a self-test that
//! shows that it can fail.

use std::collections::BTreeMap;

use tegata_crypto::chain::{Purpose, TrustAnchor, verify_chain};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_wire::enrolment::PersonalizationData;
use tegata_wire::ids::Ueid;
use tegata_wire::x509::{CertView, SanEntry};

use crate::world::{World, key_of};

pub type Check = fn(&World) -> Result<(), String>;

/// All of them, by name.
pub const ALL: [(&str, Check); 12] = [
    (
        "device_certificates_come_from_the_ca",
        invariant_device_certificates_come_from_the_ca,
    ),
    (
        "confirmed_certificates_are_in_the_ca_store",
        invariant_confirmed_certificates_are_in_the_ca_store,
    ),
    ("serials_are_unique", invariant_serials_are_unique),
    (
        "one_certificate_per_request",
        invariant_one_certificate_per_request,
    ),
    (
        "nothing_issued_without_authenticated_csr",
        invariant_nothing_issued_without_authenticated_csr,
    ),
    (
        "sequence_never_decreases",
        invariant_sequence_never_decreases,
    ),
    (
        "personalization_is_the_devices_own",
        invariant_personalization_is_the_devices_own,
    ),
    (
        "a_module_uses_its_own_releases_key",
        invariant_a_module_uses_its_own_releases_key,
    ),
    (
        "other_apps_never_use_a_key",
        invariant_other_apps_never_use_a_key,
    ),
    (
        "challenges_are_used_once",
        invariant_challenges_are_used_once,
    ),
    (
        "willing_devices_end_enrolled",
        invariant_willing_devices_end_enrolled,
    ),
    (
        "no_secret_is_ever_outside",
        invariant_no_secret_is_ever_outside,
    ),
];

/// The first that does not hold, and why.
pub fn check(world: &World) -> Result<(), (&'static str, String)> {
    for (name, check) in ALL {
        check(world).map_err(|why| (name, why))?;
    }
    Ok(())
}

fn first(list: &[String]) -> Result<(), String> {
    match list.first() {
        Some(told) => Err(told.clone()),
        None => Ok(()),
    }
}

/// No device holds a certificate that the CA did not issue for its own key and its own name.
pub fn invariant_device_certificates_come_from_the_ca(world: &World) -> Result<(), String> {
    let ca = world.ca.borrow();
    let rows = world.ca_rows();
    let by_der: BTreeMap<&[u8], i64> = rows
        .iter()
        .filter_map(|row| Some((row.der.as_deref()?, row.intent.device.0)))
        .collect();
    for device in &world.devices {
        let Some(row) = ca.role().device(&device.ueid).map_err(|e| e.to_string())? else {
            if device.held.is_empty() {
                continue;
            }
            return Err(format!("device {} is not registered", device.number));
        };
        for held in &device.held {
            let who = format!("{:?} of device {}", held.slot, device.number);
            let issued_to = by_der
                .get(held.certificate.as_slice())
                .ok_or_else(|| format!("{who}: the CA knows no such certificate"))?;
            if *issued_to != row.row.id.0 {
                return Err(format!(
                    "{who}: the certificate was issued to another device"
                ));
            }
            let view = CertView::from_der(&held.certificate).map_err(|e| e.to_string())?;
            if view.spki_der != held.spki {
                return Err(format!("{who}: the certificate is for another key"));
            }
            if !names(&view, &device.ueid)? {
                return Err(format!("{who}: the certificate names another device"));
            }
            let anchor = TrustAnchor::from_cert_der(ca.service().root_certificate());
            let anchor = anchor.map_err(|e| e.to_string())?;
            let issuing = ca.service().issuing_certificate();
            let chain = verify_chain(
                &RustCrypto,
                &held.certificate,
                &[issuing],
                &[anchor],
                Purpose::EndEntity,
                view.not_before_secs,
            );
            let chain = chain.map_err(|e| format!("{who}: {e}"))?;
            if *chain.leaf_key() != key_of(held) {
                return Err(format!("{who}: the chain is of another key"));
            }
        }
    }
    Ok(())
}

/// Whether the subject alternative names say this device.
fn names(view: &CertView<'_>, ueid: &Ueid) -> Result<bool, String> {
    let wanted = Some(ueid.to_string());
    let san = view.san().map_err(|e| e.to_string())?;
    Ok(san.iter().any(
        |entry| matches!(entry, SanEntry::PermanentIdentifier { value, .. } if *value == wanted),
    ))
}

/// Every certificate that a device ever installed is in the CA's store: crashes lose nothing that
/// was answered.
pub fn invariant_confirmed_certificates_are_in_the_ca_store(world: &World) -> Result<(), String> {
    let rows = world.ca_rows();
    for device in &world.devices {
        for certificate in &device.confirmed {
            if !rows.iter().any(|row| row.der.as_ref() == Some(certificate)) {
                let number = device.number;
                return Err(format!("one that device {number} installed is missing"));
            }
        }
    }
    Ok(())
}

/// No two certificates share a serial number.
pub fn invariant_serials_are_unique(world: &World) -> Result<(), String> {
    first(&world.ghost.serial_conflicts)?;
    for row in world.ca_rows() {
        let Some(der) = &row.der else { continue };
        let view = CertView::from_der(der).map_err(|e| e.to_string())?;
        if let Some(seen) = world.ghost.serials.get(view.serial)
            && seen != der
        {
            let serial = hex::encode(view.serial);
            return Err(format!("{serial} is of two certificates"));
        }
    }
    Ok(())
}

/// One CSR of one device gets one certificate, however often it comes.
pub fn invariant_one_certificate_per_request(world: &World) -> Result<(), String> {
    first(&world.ghost.request_conflicts)?;
    let mut requests = BTreeMap::new();
    for row in world.ca_rows() {
        let request = (row.intent.device, row.intent.csr_digest);
        if requests.insert(request, ()).is_some() {
            return Err("the CA's store has two rows for one request".into());
        }
    }
    Ok(())
}

/// Each certificate and each intent goes back to a CSR that the TA in that very device made.
pub fn invariant_nothing_issued_without_authenticated_csr(world: &World) -> Result<(), String> {
    let ca = world.ca.borrow();
    let mut ids = BTreeMap::new();
    for device in &world.devices {
        if let Some(row) = ca.role().device(&device.ueid).map_err(|e| e.to_string())? {
            ids.insert(row.row.id, device);
        }
    }
    for row in world.ca_rows() {
        let made = ids
            .get(&row.intent.device)
            .is_some_and(|device| device.requested.contains(&row.intent.csr_digest));
        if !made {
            let serial = hex::encode(&row.intent.serial);
            return Err(format!("certificate {serial}: no TA made its CSR"));
        }
    }
    Ok(())
}

/// What is installed never gets older, not even after a removal.
pub fn invariant_sequence_never_decreases(world: &World) -> Result<(), String> {
    for device in &world.devices {
        if let Some(now) = device.sequence
            && now < device.highest
        {
            let (number, highest) = (device.number, device.highest);
            return Err(format!("device {number} has {now}, it had {highest}"));
        }
    }
    Ok(())
}

/// A device runs with personalization data of its own name and of the installed release.
pub fn invariant_personalization_is_the_devices_own(world: &World) -> Result<(), String> {
    let mut keys = BTreeMap::new();
    for device in &world.devices {
        let Some((release, config)) = &device.personalization else {
            continue;
        };
        let number = device.number;
        let data = PersonalizationData::decode(config).map_err(|e| e.to_string())?;
        match (data.ueid(), world.paper) {
            (Some(ueid), false) if *ueid == device.ueid => {}
            (None, true) => {}
            (other, _) => {
                return Err(format!(
                    "device {number} runs the personalization of {other:?}"
                ));
            }
        }
        let kid = data.sender_kid(&device.ueid).map_err(|e| e.to_string())?;
        if !kid.is_of(release) {
            return Err(format!(
                "device {number} runs the personalization of another release"
            ));
        }
        let shared = keys.insert(*data.expose_csr_auth_key(), number);
        if let (Some(other), false) = (shared, world.paper) {
            return Err(format!("devices {other} and {number} have one CsrAuthKey"));
        }
    }
    Ok(())
}

/// A CSR that is authenticated with a release's key was made by that release's module: that is
/// what the CA relies on. A session that outlives an update must not change this.
pub fn invariant_a_module_uses_its_own_releases_key(world: &World) -> Result<(), String> {
    first(&world.ghost.mixed_releases)
}

/// A program does nothing with a key that another program's request made.
pub fn invariant_other_apps_never_use_a_key(world: &World) -> Result<(), String> {
    first(&world.ghost.thefts)
}

/// The TAM acts on one answer to a challenge at most.
pub fn invariant_challenges_are_used_once(world: &World) -> Result<(), String> {
    match world.ghost.challenges.iter().find(|(_, times)| **times > 1) {
        Some((challenge, times)) => {
            let challenge = hex::encode(challenge);
            Err(format!("challenge {challenge} was used {times} times"))
        }
        None => Ok(()),
    }
}

/// When faults stop, every device that wants a certificate gets it within a few tries.
pub fn invariant_willing_devices_end_enrolled(world: &World) -> Result<(), String> {
    first(&world.ghost.stuck)
}

/// No CsrAuthKey, content key, device key or server key crosses the network or lies where the REE
/// can read it.
pub fn invariant_no_secret_is_ever_outside(world: &World) -> Result<(), String> {
    first(&world.ghost.leaks)
}
