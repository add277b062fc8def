//! Deliveries of a TAM, and what devices report of them.

use tegata_store::attested;

use super::*;

impl Outside {
    /// How many rows of those the TAM has.
    fn at_tam(&self, of: &str) -> i64 {
        let tam = Sql::open(&self.dir.path().join("tam.db"));
        tam.number(&format!("SELECT count(*) FROM {of}"))
    }

    /// The TAM has never heard of its device.
    fn tam_forgets(&self) {
        let tam = Sql::open(&self.dir.path().join("tam.db"));
        tam.run("DELETE FROM delivery; DELETE FROM teep_update; DELETE FROM installed");
    }
}

#[test]
fn a_delivery_and_what_the_device_reports_of_it() {
    let mut out = Outside::new(0);
    let mut deaths = out.deaths();
    let mut now = NOW;
    loop {
        let mut device = out.devices.remove(0);
        device.installed = None;
        assert!(out.at_tam("delivery") + out.at_tam("teep_update") > 0);
        let mut forgotten = false;
        let died = deaths.tell(|server| {
            if !forgotten {
                // The delivery is made anew each time.
                server.ask("forget", now, b"")?;
                assert_eq!(out.at_tam("delivery") + out.at_tam("teep_update"), 0);
                forgotten = true;
            }
            now = UnixMs(now.0 + 1_000);
            exchange(server, "teep", &mut device, &out, now)
        });
        assert_eq!(device.installed.as_ref().unwrap().module, MODULE);
        assert_eq!(out.at_tam("delivery"), 1);
        assert_eq!(out.at_tam("installed"), 1);
        // The CA has heard of its evidence.
        let store = open_store(out.db()).unwrap();
        let row = store.read("t", |tx| {
            tegata_store::device::find(tx, &device.identity.ueid)
        });
        let id = row.unwrap().unwrap().id;
        let last = store.read("t", |tx| attested::last(tx, id)).unwrap();
        assert!(last.is_some_and(|last| last.unsigned_abs() == now.secs().0));
        out.devices.push(device);
        if !died {
            break;
        }
    }
    deaths.were_at(&[
        "forget",
        "forget",
        "use challenge",
        "record appraisal",
        "note attestation",
        "keep delivery",
        "record update",
        "update succeeded",
    ]);
}

/// What a device that lacks its TA is sent when it begins an exchange; its answer goes to `what`.
fn update(
    server: &mut Server,
    what: &str,
    device: &Device,
    out: &Outside,
    now: UnixMs,
) -> Result<Vec<u8>, Gone> {
    let query = server.ask("teep", now, b"")?;
    let response = device.query_response(&query, &out.tam, &[out.ta]);
    server.ask(what, now, &response)
}

/// The whole exchange; at its end the device has its TA, and has said so.
fn exchange(
    server: &mut Server,
    what: &str,
    device: &mut Device,
    out: &Outside,
    now: UnixMs,
) -> Result<(), Gone> {
    let update = update(server, what, device, out, now)?;
    if update.is_empty() {
        // It has the TA since before, and nobody heard of that.
        assert!(device.installed.is_some() && server.again);
        return Ok(());
    }
    let token = device.process(&update, &out.tam, &out.release);
    server.ask("teep", now, &device.success(&token)).map(drop)
}

#[test]
fn a_ta_of_which_the_tam_has_not_heard() {
    let mut out = Outside::new(0);
    let mut deaths = out.deaths();
    let device = out.devices.remove(0);
    let mut now = NOW;
    loop {
        out.tam_forgets();
        let died = deaths.tell(|server| {
            now = UnixMs(now.0 + 1_000);
            let update = update(server, "teep", &device, &out, now)?;
            assert_eq!(update, b"", "it has all that it asks for");
            Ok(())
        });
        assert_eq!(out.at_tam("installed"), 1, "{:?}", deaths.at);
        assert_eq!(out.at_tam("installed WHERE sequence = 1"), 1);
        if !died {
            break;
        }
    }
    deaths.were_at(&[
        "use challenge",
        "record appraisal",
        "note attestation",
        "record installed",
    ]);
}

#[test]
fn an_update_that_a_device_cannot_use() {
    let mut out = Outside::new(0);
    let mut deaths = out.deaths();
    let mut device = out.devices.remove(0);
    let mut now = NOW;
    loop {
        out.tam_forgets();
        device.installed = None;
        let (mut failure, mut heard) = (None, false);
        let died = deaths.tell(|server| {
            now = UnixMs(now.0 + 1_000);
            let failure = match &failure {
                Some(failure) => failure,
                None => {
                    let update = update(server, "teep", &device, &out, now)?;
                    let token = device.process(&update, &out.tam, &out.release);
                    device.installed = None;
                    failure.insert(device.failure(&token))
                }
            };
            if !heard {
                server.ask("teep", now, failure)?;
                assert_eq!(out.at_tam("delivery"), 0);
                heard = true;
            }
            exchange(server, "teep", &mut device, &out, now)?;
            // Late comes a copy of what it said of the first: the second delivery is none of its business.
            server.ask("teep", now, failure)?;
            assert_eq!(out.at_tam("delivery"), 1);
            Ok(())
        });
        assert_eq!(device.installed.as_ref().unwrap().module, MODULE);
        let failed = out.at_tam("teep_update WHERE outcome = 'error'");
        assert_eq!((failed, out.at_tam("installed")), (1, 1));
        if !died {
            break;
        }
    }
    deaths.were_at(&[
        "use challenge",
        "record appraisal",
        "note attestation",
        "keep delivery",
        "record update",
        "update failed",
        "use challenge",
        "record appraisal",
        "note attestation",
        "keep delivery",
        "record update",
        "update succeeded",
        "update failed",
    ]);
}

#[test]
fn a_delivery_that_came_damaged() {
    let mut out = Outside::new(0);
    let mut deaths = out.deaths();
    let mut device = out.devices.remove(0);
    let mut now = NOW;
    loop {
        out.tam_forgets();
        device.installed = None;
        let died = deaths.tell(|server| {
            let mut refused = false;
            loop {
                now = UnixMs(now.0 + 1_000);
                let what = match server.again || refused {
                    false => "teep/damaged",
                    true => "teep",
                };
                match exchange(server, what, &mut device, &out, now) {
                    // It was kept before it was looked at. The device asks again.
                    Err(Gone) if server.why == DAMAGED && !refused => refused = true,
                    came => return came,
                }
            }
        });
        assert_eq!(device.installed.as_ref().unwrap().module, MODULE);
        let rows = (out.at_tam("delivery"), out.at_tam("installed"));
        assert_eq!(rows, (1, 1), "{:?}", deaths.at);
        if !died {
            break;
        }
    }
    deaths.were_at(&[
        "use challenge",
        "record appraisal",
        "note attestation",
        "keep delivery",
        "forget delivery",
        "use challenge",
        "record appraisal",
        "note attestation",
        "keep delivery",
        "record update",
        "update succeeded",
    ]);
}

/// What the TAM says of it.
const DAMAGED: &str = "the manifest cannot be made: refused SUIT structure: the digest of the manifest does not match";
