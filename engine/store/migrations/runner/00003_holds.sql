-- +goose Up
-- Which grants want an object of a device that others may want as well. The rows
-- of grants that are over count no more. before is what was there before the first
-- of those that have not ended, after what they made of it; after is empty until
-- the device said it.
CREATE TABLE holds (
    device   TEXT NOT NULL,
    object   TEXT NOT NULL,
    grant_id TEXT NOT NULL REFERENCES grants (id),
    before   TEXT NOT NULL,
    after    TEXT NOT NULL,
    PRIMARY KEY (device, object, grant_id)
);
CREATE INDEX holds_by_grant ON holds (grant_id, object);
