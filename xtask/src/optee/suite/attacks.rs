//! A network that gives one device what was meant for another, or what was meant for it long ago.

use anyhow::{Context, Result, ensure};

use super::world::World;

/// Device B gets, in place of its own delivery, the one that was recorded from device A.
pub fn package_of_another(world: &mut World) -> Result<String> {
    let a = world.adopted("A")?;
    let b = world.adopted("B")?;
    ensure!(a != b, "two chips, one identity");
    let ta = world.ta("enrol")?;
    // What A is given for a TA that it does not have.
    world.agent("A", 0, &format!("sync --remove {ta}"))?.ok()?;
    world.servers.tam_relay.forget();
    world.agent("A", 0, &format!("sync --ta {ta}"))?.ok()?;
    let recorded = world.servers.tam_relay.largest_answer()?;
    ensure!(
        world.sequence("A", &ta)?.is_some(),
        "what was recorded is no delivery: A has nothing"
    );
    world.servers.tam_relay.replay(recorded.clone());
    let synced = world.agent("B", 0, &format!("sync --ta {ta}"))?;
    ensure!(world.servers.tam_relay.replayed(), "B was not given it");
    ensure!(
        world.sequence("B", &ta)?.is_none(),
        "device B installed the package of device A"
    );
    // Nothing is the worse for it: B's own delivery is taken.
    world.agent("B", 0, &format!("sync --ta {ta}"))?.ok()?;
    ensure!(
        world.sequence("B", &ta)?.is_some(),
        "device B does not take its own package afterwards"
    );
    Ok(format!(
        "{} bytes recorded; B: {}; its own it takes",
        recorded.len(),
        synced.all().lines().last().unwrap_or("nothing")
    ))
}

/// After an update the network gives the device the older delivery again, which was meant for it.
pub fn older_ta(world: &mut World) -> Result<String> {
    world.enrolled()?;
    let ta = world.ta("enrol")?;
    let older = world.sequence("A", &ta)?.context("A has the TA")?;
    world.agent("A", 0, &format!("sync --remove {ta}"))?.ok()?;
    world.servers.tam_relay.forget();
    world.agent("A", 0, &format!("sync --ta {ta}"))?.ok()?;
    let recorded = world.servers.tam_relay.largest_answer()?;
    world.release("enrol", None)?;
    world.agent("A", 0, &format!("sync --ta {ta}"))?.ok()?;
    let newer = world.sequence("A", &ta)?.context("A has the TA")?;
    ensure!(newer > older, "no update: {older}, then {newer}");

    world.servers.tam_relay.replay(recorded.clone());
    let ran = world.agent("A", 0, &format!("sync --ta {ta}"))?;
    ensure!(
        world.servers.tam_relay.replayed(),
        "A was not given it: {}",
        ran.all()
    );
    let now = world.sequence("A", &ta)?;
    ensure!(now == Some(newer), "sequence number {now:?} after {newer}");
    // Not even after the TA was removed: the floor stays.
    world.agent("A", 0, &format!("sync --remove {ta}"))?.ok()?;
    world.servers.tam_relay.replay(recorded);
    world.agent("A", 0, &format!("sync --ta {ta}"))?;
    ensure!(
        world.servers.tam_relay.replayed(),
        "A was not given it again"
    );
    let now = world.sequence("A", &ta)?;
    ensure!(now.is_none(), "the older TA came back as {now:?}");
    world.agent("A", 0, &format!("sync --ta {ta}"))?.ok()?;
    ensure!(
        world.sequence("A", &ta)? == Some(newer),
        "the newer one is gone"
    );
    Ok(format!(
        "sequence {older} after {newer} refused, also after removal"
    ))
}
