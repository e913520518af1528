-- +goose Up
-- How many attempts at a job did not reach its device, and whether the latest did
-- not: then it is due as soon as the device answers anybody.
ALTER TABLE jobs ADD COLUMN missed BIGINT NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN silent BIGINT NOT NULL DEFAULT 0;
