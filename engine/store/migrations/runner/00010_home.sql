-- +goose Up
-- Where a PostgreSQL store was written last, by which it notices that it was put back
-- to an earlier state: of which cluster and timeline, and by which transaction this
-- row was, which a row that a dump brought back was not. Empty on SQLite.
CREATE TABLE home (
    one      BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    cluster  TEXT   NOT NULL,
    timeline TEXT   NOT NULL,
    written  BIGINT NOT NULL,
    synced   BIGINT NOT NULL -- a standby has what is committed
);
