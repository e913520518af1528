-- +goose Up
-- Until when a node is alive unless it says so again, by the clock of the database.
-- Where nodes hold locks of files instead, it is 0.
ALTER TABLE nodes ADD COLUMN lease_until BIGINT NOT NULL DEFAULT 0;
