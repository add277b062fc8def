//! The two images against a machine in memory: dispatch, answers, provisioning, hostile bytes.
