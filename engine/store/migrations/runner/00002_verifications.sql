-- +goose Up
-- What the latest verification of a template on each system came to.
CREATE TABLE verifications (
    template     TEXT   NOT NULL,
    os           TEXT   NOT NULL,
    platform     TEXT   NOT NULL,
    hash         TEXT   NOT NULL,
    removal      TEXT   NOT NULL,
    removal_hash TEXT   NOT NULL,
    at           BIGINT NOT NULL,
    runner       TEXT   NOT NULL,
    cases        BIGINT NOT NULL,
    failed       BIGINT NOT NULL,
    PRIMARY KEY (template, os)
);
