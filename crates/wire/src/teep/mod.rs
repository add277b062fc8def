//! TEEP messages.
