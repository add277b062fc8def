//! wire
#![no_std]
extern crate alloc;
