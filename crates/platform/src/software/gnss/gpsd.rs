//! gpsd's reports: one JSON object a line; `TPV` has the position.
//!
//! Spec: gpsd_json(5). Not trusted: every byte, as with a receiver.

use serde::Deserialize;
use tegata_tee::position::Position;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::nmea::{degrees_e7, heading, millimetres, whole};

/// Longest line in bytes; reports on satellites are the longest, with some 10 KiB.
const LINE_LEN_MAX: usize = 32 * 1024;

/// Members of a TPV report that are read; the rest is skipped.
#[derive(Deserialize)]
struct Report {
    class: String,
    #[serde(default)]
    mode: u8,
    #[serde(default)]
    status: u8,
    time: Option<String>,
    lat: Option<f64>,
    lon: Option<f64>,
    #[serde(rename = "altHAE")]
    alt_hae: Option<f64>,
    eph: Option<f64>,
    epv: Option<f64>,
    track: Option<f64>,
    speed: Option<f64>,
}

/// Cuts the stream into lines and reads the reports.
#[derive(Debug, Default)]
pub struct Reports {
    line: Vec<u8>,
    overlong: bool,
}

impl Reports {
    /// Takes bytes, hands over each fix.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(Position)) {
        for byte in bytes {
            if *byte == b'\n' {
                if !self.overlong
                    && let Some(fix) = report(&self.line)
                {
                    each(fix);
                }
                self.line.clear();
                self.overlong = false;
            } else if self.line.len() >= LINE_LEN_MAX {
                self.overlong = true;
            } else {
                self.line.push(*byte);
            }
        }
    }
}

/// The fix of one line, if it is one.
fn report(line: &[u8]) -> Option<Position> {
    let report: Report = serde_json::from_slice(line).ok()?;
    // 2: position, 3: position and height.
    if report.class != "TPV" || !matches!(report.mode, 2 | 3) || !received(report.status) {
        return None;
    }
    let time = OffsetDateTime::parse(report.time.as_deref()?, &Rfc3339).ok()?;
    let most = f64::from(i32::MAX);
    Some(Position {
        latitude_e7: degrees_e7(report.lat?, 90.0)?,
        longitude_e7: degrees_e7(report.lon?, 180.0)?,
        altitude_mm: report
            .alt_hae
            .filter(|_| report.mode >= 3)
            .and_then(|m| whole(m, 1_000.0, most))
            .and_then(|mm| i32::try_from(mm).ok()),
        accuracy_mm: report.eph.and_then(millimetres),
        altitude_accuracy_mm: report.epv.and_then(millimetres),
        heading_mdeg: report.track.and_then(heading),
        speed_mm_s: report.speed.and_then(millimetres),
        time_ms: u64::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()?,
        age_ms: 0,
    })
}

/// Whether a position of this `status` was received: of satellites, corrected or not, alone or with
/// other sensors. Not what was reckoned without them (5), surveyed or typed in (7), or simulated (8).
///
/// Spec: gpsd_json(5), TPV
const fn received(status: u8) -> bool {
    // 0 is unknown, and is meant where the member is absent: `mode` has the word.
    matches!(status, 0..=4 | 6 | 9)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TPV: &str = r#"{"class":"TPV","device":"/dev/pts/1","status":2,"mode":3,"time":"2026-11-22T05:41:10.500Z","lat":35.681236200,"lon":139.767124800,"altHAE":40.25,"eph":4.2,"epv":8.0,"track":271.5,"speed":1.39}"#;

    fn run(text: &str) -> Vec<Position> {
        let mut out = Vec::new();
        Reports::default().feed(text.as_bytes(), |fix| out.push(fix));
        out
    }

    #[test]
    fn a_report_is_read() {
        let text = format!("{{\"class\":\"VERSION\"}}\r\nnoise\n{TPV}\r\n");
        let [fix] = run(&text)[..] else {
            panic!("{:?}", run(&text));
        };
        assert_eq!(
            (fix.latitude_e7, fix.longitude_e7),
            (356_812_362, 1_397_671_248)
        );
        assert_eq!(
            (fix.altitude_mm, fix.accuracy_mm),
            (Some(40_250), Some(4_200))
        );
        assert_eq!(
            fix.time_ms % 86_400_000,
            (5 * 3600 + 41 * 60 + 10) * 1000 + 500
        );
    }

    #[test]
    fn what_is_no_fix_is_none() {
        for (from, to) in [
            ("\"mode\":3", "\"mode\":1"),
            ("\"mode\":3", "\"mode\":4"),
            ("\"status\":2", "\"status\":5"),
            ("\"status\":2", "\"status\":7"),
            ("\"status\":2", "\"status\":8"),
            ("\"status\":2", "\"status\":10"),
            ("\"status\":2", "\"status\":\"GPS\""),
            ("35.68", "95.68"),
            ("TPV", "SKY"),
            ("2026-11-22T", "2026-13-22T"),
            ("\"lat\"", "\"lad\""),
        ] {
            assert!(
                run(&format!("{}\n", TPV.replace(from, to))).is_empty(),
                "{to}"
            );
        }
        for status in ["", "\"status\":1,", "\"status\":6,", "\"status\":9,"] {
            let text = TPV.replace("\"status\":2,", status);
            assert_eq!(run(&format!("{text}\n")).len(), 1, "{status}");
        }
        let long = format!("{}\n{TPV}\n", "[".repeat(200_000));
        assert_eq!(run(&long).len(), 1, "what follows garbage is read");
        assert!(run(&format!("{}\n", "[".repeat(30_000))).is_empty());
    }
}
