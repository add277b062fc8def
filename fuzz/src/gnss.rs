//! The receiver's two languages, as `teed`'s process reads them: the files themselves, so that no
//! backend must be built here.

#[path = "../../crates/platform/src/software/gnss/gpsd.rs"]
pub mod gpsd;
#[path = "../../crates/platform/src/software/gnss/nmea.rs"]
pub mod nmea;
