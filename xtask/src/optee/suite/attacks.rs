//! A network that gives one device what was meant for another, or what was meant for it long ago.

use anyhow::{Result, ensure};

use super::instances::trapping_module;
use super::world::World;

/// Device B gets, in place of its own delivery, the one that was recorded from device A.
pub fn package_of_another(world: &mut World) -> Result<String> {
    world.enrolled()?;
    let a = world.adopted("A")?;
    let b = world.adopted("B")?;
    ensure!(a != b, "two chips, one identity");
    let ta = world.ta("enrol")?;
    let recorded = world.first_delivery.clone();
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
    world.off("B");
    Ok(format!(
        "{} bytes recorded; B: {}; its own it takes",
        recorded.len(),
        synced.all().lines().last().unwrap_or("nothing")
    ))
}

/// After an update the network gives the device the older delivery again, which was meant for it.
pub fn older_ta(world: &mut World) -> Result<String> {
    world.adopted("A")?;
    let module = trapping_module(world)?;
    let ta = world.release("floor", Some(&module))?;
    let want = format!("sync --ta {ta}");
    world.servers.tam_relay.forget();
    world.agent("A", 0, &want)?.ok()?;
    ensure!(
        world.sequence("A", &ta)? == Some(1),
        "the first is not there"
    );
    let older = world.servers.tam_relay.largest_answer()?;
    world.release("floor", Some(&module))?;
    world.agent("A", 0, "sync")?.ok()?;
    ensure!(
        world.sequence("A", &ta)? == Some(2),
        "the update is not there"
    );

    world.servers.tam_relay.replay(older.clone());
    let ran = world.agent("A", 0, "sync")?;
    ensure!(
        world.servers.tam_relay.replayed(),
        "A was not given it: {}",
        ran.all()
    );
    let now = world.sequence("A", &ta)?;
    ensure!(now == Some(2), "sequence number {now:?} after 2");
    // Not even after the TA was removed: the floor stays.
    world.agent("A", 0, &format!("sync --remove {ta}"))?.ok()?;
    ensure!(world.sequence("A", &ta)?.is_none(), "it was not removed");
    world.servers.tam_relay.replay(older);
    world.agent("A", 0, &want)?;
    ensure!(
        world.servers.tam_relay.replayed(),
        "A was not given it again"
    );
    let now = world.sequence("A", &ta)?;
    ensure!(now.is_none(), "the older TA came back as {now:?}");
    world.agent("A", 0, &want)?.ok()?;
    ensure!(
        world.sequence("A", &ta)? == Some(2),
        "the newer one does not come back"
    );
    Ok("sequence 1 after 2 refused, also after removal; 2 comes back".into())
}
