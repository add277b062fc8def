//! The Wasm host: instances of TAs under fuel and memory limits.
