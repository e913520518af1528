-- +goose Up
-- How a grant came about that nobody requested; empty: somebody did. Who requests
-- has one grant of a credential; what was found on a device is nobody's request.
ALTER TABLE grants ADD COLUMN origin TEXT NOT NULL DEFAULT '';
DROP INDEX grants_one_per_requester;
CREATE UNIQUE INDEX grants_one_per_requester ON grants (requester, credential)
    WHERE state NOT IN ('denied', 'cancelled', 'removed', 'gone') AND origin = '';
-- What a person wants to hear no more of for a while, of what scans find.
CREATE TABLE ignored (
    device   TEXT   NOT NULL,
    object   TEXT   NOT NULL,
    mark     TEXT   NOT NULL,
    actor    TEXT   NOT NULL,
    reason   TEXT   NOT NULL,
    at       BIGINT NOT NULL,
    until_at BIGINT NOT NULL,
    PRIMARY KEY (device, object)
);
