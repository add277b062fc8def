//! ta-sdk
#![no_std]
extern crate alloc;
