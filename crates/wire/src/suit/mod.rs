//! SUIT envelopes, manifests and reports.
