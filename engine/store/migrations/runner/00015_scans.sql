-- +goose Up
-- What the latest scan of each device came to. error says why there was none when it
-- was tried last; everything from scanned_at on is of the latest that worked.
CREATE TABLE scans (
    device     TEXT   NOT NULL PRIMARY KEY,
    tried_at   BIGINT NOT NULL,
    error      TEXT   NOT NULL,
    away       BIGINT NOT NULL,
    scanned_at BIGINT,
    credential TEXT   NOT NULL,
    marked     BIGINT NOT NULL,
    in_order   BIGINT NOT NULL,
    found      BIGINT NOT NULL,
    findings   TEXT   NOT NULL
);
CREATE INDEX scans_found ON scans (device) WHERE found > 0;
