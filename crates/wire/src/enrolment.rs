//! Tegata's own enrolment objects: bytes only.
