//! HTTP as every role uses it: server frame, bodies, problem documents, and the roles' own calls.

pub mod body;
pub mod client;
pub mod content;
pub mod descriptors;
pub mod frame;
mod often;
mod peers;
pub mod places;
pub mod problem;
#[cfg(test)]
mod tests;
pub mod tls;
