//! NMEA 0183 as receivers speak it: bytes to lines to fixes.
//!
//! Invariants: memory is bounded whatever comes; a line that is not a valid sentence is dropped; what
//! the receiver says it estimated, was told or simulated is no fix; no input panics.
//!
//! Not trusted: every byte. A wrong checksum drops a line, a right one proves nothing.

use nmea::sentences::FixType;
use nmea::sentences::rmc::RmcStatusOfFix;
use nmea::{ParseResult, parse_bytes};
use tegata_tee::position::Position;

/// Longest line in bytes: the standard has 82, receivers write a few more.
const LINE_LEN_MAX: usize = 102;
/// 95 % radius for a horizontal dilution of 1, in metres; with corrections a quarter. The figures
/// of gpsd.
const UERE_M: f64 = 15.0;
/// Metres a second in a knot.
const KNOT_M_S: f64 = 1_852.0 / 3_600.0;
/// What was said of another moment than so many seconds around is not of this fix.
const SAME_MOMENT_SECS: i64 = 2;

/// Cuts a stream into lines.
#[derive(Debug, Default)]
pub struct Lines {
    line: Vec<u8>,
    overlong: bool,
}

impl Lines {
    /// Takes bytes, hands over each whole line.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8])) {
        for byte in bytes {
            match byte {
                b'\n' | b'\r' => {
                    if !self.overlong && !self.line.is_empty() {
                        each(&self.line);
                    }
                    self.line.clear();
                    self.overlong = false;
                }
                _ if self.line.len() >= LINE_LEN_MAX => self.overlong = true,
                // A sentence begins anew at its first character, whatever was cut off before.
                b'$' => {
                    self.line.clear();
                    self.line.push(b'$');
                    self.overlong = false;
                }
                _ => self.line.push(*byte),
            }
        }
    }
}

/// Height and quality, from a GGA sentence.
#[derive(Clone, Copy, Debug)]
struct Quality {
    second: i64,
    /// Whether satellites were received for it.
    received: bool,
    altitude_m: Option<f64>,
    accuracy_m: Option<f64>,
}

/// Error estimates, from a GST sentence.
#[derive(Clone, Copy, Debug)]
struct Errors {
    second: i64,
    horizontal_m: Option<f64>,
    vertical_m: Option<f64>,
}

/// Puts sentences of one moment together. RMC is what makes a fix: it alone has the date.
#[derive(Debug, Default)]
pub struct Fixes {
    quality: Option<Quality>,
    errors: Option<Errors>,
}

/// A number in units of 1/`scale`, if it is one and within `most` units either way.
pub(super) fn whole(number: f64, scale: f64, most: f64) -> Option<i64> {
    let scaled = (number * scale).round();
    // In range, so the conversion is exact; NaN is in no range.
    (scaled.is_finite() && scaled.abs() <= most).then_some(scaled as i64)
}

/// Millimetres of a length that is not negative.
pub(super) fn millimetres(metres: f64) -> Option<u32> {
    whole(metres, 1_000.0, f64::from(u32::MAX)).and_then(|mm| u32::try_from(mm).ok())
}

/// 10^-7 degrees.
pub(super) fn degrees_e7(degrees: f64, most: f64) -> Option<i32> {
    whole(degrees, 1e7, most * 1e7).and_then(|e7| i32::try_from(e7).ok())
}

impl Fixes {
    /// Takes one line; gives a fix when it completes one.
    pub fn line(&mut self, line: &[u8]) -> Option<Position> {
        match parse_bytes(line).ok()? {
            ParseResult::GGA(gga) => {
                let received = gga.fix_type.is_some_and(FixType::is_valid);
                let uere = match gga.fix_type {
                    Some(FixType::DGps | FixType::Rtk | FixType::FloatRtk) => UERE_M / 4.0,
                    _ => UERE_M,
                };
                let height = gga.altitude.zip(gga.geoid_separation);
                self.quality = gga.fix_time.map(|time| Quality {
                    second: second_of_day(&time),
                    received,
                    altitude_m: height.map(|(sea, geoid)| f64::from(sea) + f64::from(geoid)),
                    accuracy_m: gga.hdop.map(|hdop| f64::from(hdop) * uere),
                });
                None
            }
            ParseResult::GST(gst) => {
                let deviations = gst.lat_sd.zip(gst.long_sd);
                self.errors = Some(Errors {
                    second: second_of_day(&gst.time?),
                    // Twice the distance deviation holds 95 % and more.
                    horizontal_m: deviations
                        .map(|(lat, long)| 2.0 * f64::from(lat).hypot(f64::from(long))),
                    vertical_m: gst.alt_sd.map(|sd| 2.0 * f64::from(sd)),
                });
                None
            }
            ParseResult::RMC(rmc) => {
                if rmc.status_of_fix == RmcStatusOfFix::Invalid || !received(line) {
                    return None;
                }
                let time = rmc.fix_time?;
                let moment = rmc.fix_date?.and_time(time).and_utc().timestamp_millis();
                let second = second_of_day(&time);
                let quality = self.quality.filter(|q| near(q.second, second));
                if quality.is_some_and(|q| !q.received) {
                    return None;
                }
                let errors = self.errors.filter(|e| near(e.second, second));
                let accuracy_m = errors
                    .and_then(|e| e.horizontal_m)
                    .or(quality.and_then(|q| q.accuracy_m));
                let altitude_m = quality.and_then(|q| q.altitude_m);
                let most = f64::from(i32::MAX);
                Some(Position {
                    latitude_e7: degrees_e7(rmc.lat?, 90.0)?,
                    longitude_e7: degrees_e7(rmc.lon?, 180.0)?,
                    altitude_mm: altitude_m
                        .and_then(|m| whole(m, 1_000.0, most))
                        .and_then(|mm| i32::try_from(mm).ok()),
                    accuracy_mm: accuracy_m.and_then(millimetres),
                    altitude_accuracy_mm: errors.and_then(|e| e.vertical_m).and_then(millimetres),
                    heading_mdeg: rmc.true_course.and_then(|c| heading(c.into())),
                    speed_mm_s: rmc
                        .speed_over_ground
                        .and_then(|knots| millimetres(f64::from(knots) * KNOT_M_S)),
                    time_ms: u64::try_from(moment).ok()?,
                    age_ms: 0,
                })
            }
            _ => None,
        }
    }
}

/// Whether the last two fields of an RMC sentence, where it has them, say that the position was
/// received from satellites: not estimated (E), typed in (M), simulated (S), or not valid (N); what
/// is not known is refused. Read here because the parser takes an unknown mark for none.
///
/// Spec: NMEA 0183, RMC: mode indicator since 2.3, navigational status since 4.1
fn received(line: &[u8]) -> bool {
    let sentence = line.split(|byte| *byte == b'*').next().unwrap_or_default();
    let mut fields = sentence.split(|byte| *byte == b',').skip(12);
    let (mode, status) = (fields.next(), fields.next());
    let (mode, status) = (mode.unwrap_or_default(), status.unwrap_or_default());
    let mode_ok = matches!(mode, b"" | b"A" | b"D" | b"F" | b"P" | b"R");
    // V is what receivers write that have no such status. S is "safe" beside a mode, which would
    // itself tell a simulator; alone it may be one.
    let status_ok = match status {
        b"" | b"A" | b"D" | b"V" => true,
        b"S" => !mode.is_empty(),
        _ => false,
    };
    mode_ok && status_ok
}

/// A course in 10^-3 degrees, below 360 degrees.
pub(super) fn heading(degrees: f64) -> Option<u32> {
    whole(degrees, 1_000.0, 360_000.0)
        .and_then(|mdeg| u32::try_from(mdeg).ok())
        .map(|mdeg| mdeg % 360_000)
}

fn second_of_day(time: &impl Clock) -> i64 {
    time.second_of_day()
}

fn near(a: i64, b: i64) -> bool {
    let apart = (a - b).rem_euclid(86_400);
    apart <= SAME_MOMENT_SECS || apart >= 86_400 - SAME_MOMENT_SECS
}

/// The time of day of the parser's own library, without naming that library.
trait Clock {
    fn second_of_day(&self) -> i64;
}

impl<T: std::fmt::Display> Clock for T {
    fn second_of_day(&self) -> i64 {
        // `hh:mm:ss`, with a fraction at times.
        let text = self.to_string();
        let mut parts = text
            .split([':', '.'])
            .map(|part| part.parse::<i64>().unwrap_or(0));
        let mut next = || parts.next().unwrap_or(0);
        next() * 3_600 + next() * 60 + next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &[u8]) -> Vec<Position> {
        let (mut lines, mut fixes, mut out) = (Lines::default(), Fixes::default(), Vec::new());
        lines.feed(text, |line| out.extend(fixes.line(line)));
        out
    }

    /// As receivers write them; the RMC is the standard's own example.
    const EXAMPLE: &[u8] = b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n\
        $GPGST,123519,1.2,,,,3.0,4.0,6.5*7E\r\n\
        $GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A\r\n";

    #[test]
    fn a_fix_is_put_together() {
        let [fix] = run(EXAMPLE)[..] else {
            panic!("{:?}", run(EXAMPLE));
        };
        assert_eq!(
            (fix.latitude_e7, fix.longitude_e7),
            (481_173_000, 115_166_667)
        );
        assert_eq!(fix.altitude_mm, Some(592_300));
        assert_eq!(fix.heading_mdeg, Some(84_400));
        assert_eq!(fix.speed_mm_s, Some(11_524));
        assert_eq!(fix.time_ms, 764_426_119_000);
    }

    #[test]
    fn what_is_no_fix_is_none() {
        for text in [
            "$GPRMC,123519,V,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*7D\r\n",
            "$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6B\r\n",
            "$GPRMC,,A,,,,,,,,,*4D\r\n",
            "$GPRMC\r\n$\r\n*\r\n\0\0\n",
        ] {
            assert!(run(text.as_bytes()).is_empty(), "{text}");
        }
        let mut long = vec![b'$'; 1];
        long.extend([b'A'; 100_000]);
        long.extend(b"\r\n");
        long.extend(EXAMPLE);
        assert_eq!(run(&long).len(), 1, "what follows garbage is read");
    }

    /// A sentence with its checksum.
    fn sentence(body: &str) -> String {
        let sum = body.bytes().fold(0u8, |sum, byte| sum ^ byte);
        format!("${body}*{sum:02X}\r\n")
    }

    #[test]
    fn what_the_receiver_made_up_is_no_fix() {
        const RMC: &str = "GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W";
        let fixes = |end: &str| run(sentence(&format!("{RMC}{end}")).as_bytes()).len();
        for end in [
            "", ",", ",A", ",D", ",F", ",P", ",R", ",A,V", ",D,A", ",A,S", ",,V",
        ] {
            assert_eq!(fixes(end), 1, "{end}");
        }
        for end in [
            ",E", ",M", ",N", ",S", ",C", ",U", ",X", ",A,E", ",A,M", ",A,N", ",A,U", ",A,C",
            ",,S", ",S,V",
        ] {
            assert_eq!(fixes(end), 0, "{end}");
        }
        let with = |quality: u8, second: u8| {
            let gga = format!(
                "GPGGA,1235{second},4807.038,N,01131.000,E,{quality},08,0.9,545.4,M,46.9,M,,"
            );
            let text = [sentence(&gga), sentence(RMC)].concat();
            run(text.as_bytes()).len()
        };
        for quality in 1..=5 {
            assert_eq!(with(quality, 19), 1, "{quality}");
        }
        for quality in [0, 6, 7, 8] {
            assert_eq!(with(quality, 19), 0, "{quality}");
            assert_eq!(with(quality, 30), 1, "of another moment");
        }
    }

    #[test]
    fn noise_never_panics() {
        let mut x: u64 = 88_172_645_463_325_252;
        let mut noisy = EXAMPLE.repeat(4);
        for _ in 0..20_000 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let at = usize::try_from(x % 1_000_000).unwrap() % noisy.len();
            noisy[at] = x.to_le_bytes()[5];
            // With the checksum of what it has become, so that it reaches the parser's depths.
            let (mut lines, mut fixes) = (Lines::default(), Fixes::default());
            lines.feed(&noisy[at / 2..], |line| {
                let body = line.strip_prefix(b"$").unwrap_or(line);
                let body = body.split(|b| *b == b'*').next().unwrap_or(body);
                let sum = body.iter().fold(0u8, |sum, byte| sum ^ byte);
                let mut right = vec![b'$'];
                right.extend(body);
                right.extend(format!("*{sum:02X}").bytes());
                let _ = fixes.line(&right);
            });
            if x.is_multiple_of(64) {
                noisy = EXAMPLE.repeat(4);
            }
        }
    }
}
