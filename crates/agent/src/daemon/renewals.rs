//! The daemon's own labels, renewed by themselves.
//!
//! Only those of the identity that the daemon has (`login` of agent.toml): it cannot see others'.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tegata_client::TaUuid;
use tegata_client::keys::{KeyError, Keys};

use super::Daemon;
use crate::enrol::{Request, Unwatched};
use crate::renew::{Renewed, renew};
use crate::retry::{Backoff, jitter};
use crate::teep::Purpose;

/// When a label is looked at again that was not left alone: after a failure, or a success.
struct Plan {
    backoff: Backoff,
    not_before: Instant,
    /// How long it was left alone after the last success.
    rested: Option<Duration>,
}

/// Looks at all labels now and then, for ever.
pub(super) fn run(daemon: &Arc<Daemon>) {
    let config = &daemon.config;
    let every = Duration::from_secs(config.renew_secs);
    let mut plans: HashMap<(TaUuid, String), Plan> = HashMap::new();
    // Soon after a start: some devices are never on for long.
    std::thread::sleep(jitter(FIRST_PAUSE.min(every)));
    loop {
        look_at_all(daemon, &mut plans);
        // Also what failed is looked at no more often than its own pause says.
        let soonest = plans.values().map(|plan| plan.not_before).min();
        let until = soonest.map(|at| at.saturating_duration_since(Instant::now()));
        let pause = until.unwrap_or(every).min(every).max(SHORTEST_PAUSE);
        std::thread::sleep(jitter(pause));
    }
}

fn look_at_all(daemon: &Arc<Daemon>, plans: &mut HashMap<(TaUuid, String), Plan>) {
    for ta in tas(daemon) {
        let keys = Keys::new(daemon.tee.clone(), Some(ta), daemon.config.login, 1);
        match keys.list() {
            Ok(entries) => {
                for entry in entries.iter().filter(|entry| entry.state.is_usable()) {
                    look(daemon, ta, &entry.label, plans);
                }
            }
            Err(error) if error.is_without_ta() => {}
            Err(error) => tracing::warn!(%ta, %error, "labels cannot be listed"),
        }
    }
}

/// The TAs that keep certificates.
fn tas(daemon: &Daemon) -> Vec<TaUuid> {
    let config = &daemon.config;
    let named = config.renew_tas.iter().chain(match config.renew_tas.len() {
        0 => config.enrol_ta.as_ref(),
        _ => None,
    });
    let named: Vec<TaUuid> = named.filter_map(|name| config.ta(name)).collect();
    if !named.is_empty() {
        return named;
    }
    match daemon.tee.info() {
        Ok(info) => match info.trusted_apps.as_slice() {
            [only] => vec![only.ta],
            _ => Vec::new(),
        },
        Err(_) => Vec::new(),
    }
}

fn look(
    daemon: &Arc<Daemon>,
    ta: TaUuid,
    label: &str,
    plans: &mut HashMap<(TaUuid, String), Plan>,
) {
    let config = &daemon.config;
    let name = (ta, label.to_owned());
    if plans
        .get(&name)
        .is_some_and(|plan| Instant::now() < plan.not_before)
    {
        return;
    }
    let mut request = Request::new(ta, label);
    request.login = config.login;
    // One attempt at each step: this comes back by itself.
    request.attempts = 1;
    request.patience = Duration::ZERO;
    let mut check_in = || {
        if let Err(error) = daemon.visit(Purpose::Check) {
            tracing::warn!(%error, "visit to the TAM before a renewal failed");
        }
    };
    let outcome = renew(
        &daemon.tee,
        &daemon.carrier,
        &request,
        false,
        &mut check_in,
        &mut Unwatched,
    );
    match outcome {
        Ok(Renewed::Done(_)) => {
            tracing::info!(%ta, label, "certificate renewed");
            let rested = plans.get(&name).and_then(|plan| plan.rested);
            let keys = Keys::new(daemon.tee.clone(), Some(ta), config.login, 1);
            let status = keys
                .status(label)
                .ok()
                .and_then(|status| status.certificate);
            // As the TA counts time.
            let due_in = status.map_or(0, |new| match new.due {
                true => 0,
                false => new.renew_at_secs.saturating_sub(new.time_secs),
            });
            let (rest, rested) = rest_after(rested, Duration::from_secs(due_in));
            let plan = Plan {
                backoff: backoff(daemon),
                not_before: Instant::now() + rest,
                rested,
            };
            plans.insert(name, plan);
        }
        Ok(_) => drop(plans.remove(&name)),
        Err(crate::renew::RenewError::Status(KeyError::NoKey { .. })) => drop(plans.remove(&name)),
        Err(error) => {
            let plan = plans.entry(name).or_insert_with(|| Plan {
                backoff: backoff(daemon),
                not_before: Instant::now(),
                rested: None,
            });
            let pause = plan.backoff.next_pause();
            plan.not_before = Instant::now() + pause;
            let pause_secs = pause.as_secs();
            tracing::warn!(%ta, label, %error, pause_secs, "certificate not renewed");
        }
    }
}

/// How long a label is left alone that was renewed, when its certificate is due in `due_in`: not beyond that.
/// One that is due again at once comes of a clock that is, or once was, wrong; then longer than it `rested`
/// the time before, and that is to be remembered.
fn rest_after(rested: Option<Duration>, due_in: Duration) -> (Duration, Option<Duration>) {
    if due_in > Duration::ZERO {
        return (AFTER_SUCCESS.min(due_in / 2), None);
    }
    let rest = rested.map_or(AFTER_SUCCESS, |rested| {
        rested.saturating_mul(2).min(AFTER_SUCCESS_MAX)
    });
    (rest, Some(rest))
}

fn backoff(daemon: &Daemon) -> Backoff {
    let config = &daemon.config;
    let most = config.retry_max_secs.max(RENEW_RETRY_MAX_SECS);
    Backoff::new(
        Duration::from_secs(config.retry_first_secs),
        Duration::from_secs(most),
    )
}

/// A label that was renewed is left alone for a day.
const AFTER_SUCCESS: Duration = Duration::from_secs(86_400);
/// And for a month at most: a CA whose clock was ahead by years made a TA's time wrong for as long.
const AFTER_SUCCESS_MAX: Duration = Duration::from_secs(30 * 86_400);
/// Longest pause after failures at least: a renewal has days, and a fleet would knock together.
const RENEW_RETRY_MAX_SECS: u64 = 3_600;
/// Longest pause before the first look.
const FIRST_PAUSE: Duration = Duration::from_secs(60);
/// Shortest pause between two looks.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_due_again_at_once_is_left_alone_for_longer_and_longer() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let at_once = |rested| rest_after(rested, Duration::ZERO).0;
        let mut rests = vec![at_once(None)];
        for _ in 0..7 {
            rests.push(at_once(rests.last().copied()));
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 30, 30, 30].map(days));
        // A year of a wrong clock costs some sixteen renewals.
        let times = (0..).scan((days(0), None), |(at, rested), _| {
            *rested = Some(at_once(*rested));
            *at += rested.unwrap_or_default();
            Some(*at)
        });
        assert!(times.take_while(|at| *at < days(365)).count() <= 16);
    }

    #[test]
    fn what_lasts_for_hours_is_looked_at_within_them_each_time() {
        let hours = |hours: u64| Duration::from_secs(hours * 3_600);
        assert_eq!(rest_after(None, hours(16)), (hours(8), None));
        assert_eq!(rest_after(Some(hours(48)), hours(16)), (hours(8), None));
        assert_eq!(rest_after(None, hours(8_000)), (hours(24), None));
    }
}
