-- +goose Up
-- What was sealed with the key of the store when it was first used, by which
-- machines see that they have the same one.
CREATE TABLE proof (
    one    BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    sealed BLOB   NOT NULL
);
