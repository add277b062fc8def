//! crypto
#![no_std]
extern crate alloc;
