//! The rest of the fleet: the same processes and messages, several devices at a time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tegata_wire::ids::TaUuid;

use crate::cli::Demo;
use crate::commands::enrol;
use crate::commands::factory::Made;
use crate::fault::{Fault, Outcome};
use crate::story::{Act, Event, Who};

use super::device::Device;
use super::stage::{Place, Story};

/// Enrols every device; gives how many have their certificate, which is all or the demo fails.
///
/// # Errors
/// The first device that failed, with its log.
pub fn run(args: &Demo, story: &Story, place: &Place, ta: &TaUuid, made: &[Made]) -> Outcome<u32> {
    story.chapter(
        "The fleet",
        "Every device has a TEE process and an agent of its own; nobody looks at a list.",
    );
    let total = u32::try_from(made.len()).unwrap_or(u32::MAX);
    let queue: Mutex<VecDeque<&Made>> = Mutex::new(made.iter().collect());
    let done = AtomicU32::new(0);
    let first_fault: Mutex<Option<(String, Fault)>> = Mutex::new(None);
    let failed = AtomicU32::new(0);
    let times: Mutex<Vec<Duration>> = Mutex::new(Vec::new());
    let bar = bar(story, total);
    let begun = Instant::now();
    let step = total.div_ceil(10).max(1);
    std::thread::scope(|scope| {
        for _ in 0..args.at_once.min(total) {
            scope.spawn(|| {
                loop {
                    let next = queue
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .pop_front();
                    let Some(device) = next else { return };
                    let started = Instant::now();
                    match one(place, ta, device) {
                        Ok(()) => {
                            times
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(started.elapsed());
                            let now = done.fetch_add(1, Ordering::Relaxed).saturating_add(1);
                            if !story.watched() && (now.is_multiple_of(step) || now == total) {
                                progress(story, now, failed.load(Ordering::Relaxed), total, begun);
                            }
                        }
                        Err(fault) => {
                            failed.fetch_add(1, Ordering::Relaxed);
                            let mut slot =
                                first_fault.lock().unwrap_or_else(PoisonError::into_inner);
                            slot.get_or_insert((device.serial.clone(), fault));
                        }
                    }
                    bar.inc(1);
                }
            });
        }
    });
    bar.finish_and_clear();
    let (done, failed) = (done.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    if story.watched() {
        progress(story, done, failed, total, begun);
    }
    let slot = first_fault
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some((serial, fault)) = slot {
        return Err(Fault {
            what: format!(
                "{failed} of {total} devices failed, the first is {serial}: {}",
                fault.what
            ),
            ..fault
        });
    }
    let mut times = times.into_inner().unwrap_or_else(PoisonError::into_inner);
    times.sort_unstable();
    let at = |percent: usize| {
        let index = times.len().saturating_sub(1).saturating_mul(percent) / 100;
        let time = times.get(index).copied().unwrap_or_default();
        crate::story::span(u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
    };
    let per_minute = f64::from(done) * 60.0 / begun.elapsed().as_secs_f64().max(0.001);
    story.act(
        Act::by(
            Who::Demo,
            format!("{per_minute:.0} devices a minute on this machine"),
        )
        .detail(format!(
            "from switching a device on to its certificate: median {}, slowest {}; {} at a time",
            at(50),
            at(100),
            args.at_once
        )),
    );
    Ok(done)
}

fn progress(story: &Story, done: u32, failed: u32, total: u32, begun: Instant) {
    story.tell(&Event::Fleet {
        done,
        failed,
        total,
        elapsed_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
}

/// A bar where a person watches, nothing elsewhere.
fn bar(story: &Story, total: u32) -> ProgressBar {
    if !story.watched() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(u64::from(total));
    let look = ProgressStyle::with_template(
        "   {bar:56.green/dim} {pos:>5}/{len} devices  {elapsed:>4}  {eta:>4} left",
    )
    .unwrap_or_else(|_| ProgressStyle::default_bar())
    .progress_chars("━━─");
    bar.set_style(look);
    bar
}

/// One device from switching on to its certificate.
fn one(place: &Place, ta: &TaUuid, made: &Made) -> Outcome<()> {
    let mut device = Device::start_tee(made, &place.logs())?;
    device.start_agent(&place.logs())?;
    enrol::wait_for_ta(&made.dir, ta)?;
    let enrolled = enrol::enrol(&made.dir, ta, "default", 5)?;
    enrol::write_pem(&made.dir.join("cert.pem"), &enrolled)?;
    device.stop();
    Ok(())
}
