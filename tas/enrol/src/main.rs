//! The module: entry points over the library, which other enrolling TAs share.
#![no_std]
#![no_main]

tegata_ta_sdk::trusted_app!(
    tegata_ta_enrol::Enrol,
    "gpd.ta.version = 0.1.0\n\
     gpd.ta.description = Tegata enrolment and keys\n\
     gpd.ta.dataSize = 1048576\n\
     gpd.ta.stackSize = 65536\n"
);
