//! A store as an earlier version left it.

/// Takes back the steps of the schema from the fifth on.
pub const FROM_STEP_5: &str = "\
    DROP INDEX certificate_by_device; DROP INDEX certificate_by_end; DROP INDEX certificate_scope; \
    DROP INDEX delivery_by_time; DROP TABLE approval; DROP TABLE archive; DROP TABLE archive_kind; \
    DROP TABLE attested; DROP TABLE ca_issuing; DROP TABLE ca_root; DROP TABLE enrolment_secret; \
    DROP TABLE evidence_nonce; DROP TABLE issuance_stop; \
    DROP TABLE revocation; DROP TABLE revoked_device; DROP TABLE shard_lane; DROP TABLE status_base; \
    DROP TABLE status_counter; ALTER TABLE certificate DROP COLUMN evidence; \
    ALTER TABLE certificate DROP COLUMN replaces; \
    ALTER TABLE certificate DROP COLUMN shard; ALTER TABLE certificate DROP COLUMN status_base; \
    ALTER TABLE cmp_transaction DROP COLUMN asker; DELETE FROM migration WHERE version >= 5;";
