-- +goose Up
-- What people have open by a grant. started_at is NULL until the person is in,
-- ended_at until it is over; beat_at is the last sign of life of their program.
CREATE TABLE sessions (
    id         TEXT   NOT NULL PRIMARY KEY,
    grant_id   TEXT   NOT NULL REFERENCES grants (id),
    requester  TEXT   NOT NULL,
    credential TEXT   NOT NULL,
    device     TEXT   NOT NULL,
    account    TEXT   NOT NULL,
    kind       TEXT   NOT NULL,
    command    TEXT   NOT NULL,
    node       TEXT   NOT NULL,
    client     TEXT   NOT NULL,
    opened_at  BIGINT NOT NULL,
    started_at BIGINT,
    beat_at    BIGINT NOT NULL,
    ended_at   BIGINT,
    ended_by   TEXT   NOT NULL,
    status     BIGINT NOT NULL,
    recorded   BIGINT NOT NULL,
    dropped    BIGINT NOT NULL
);
CREATE INDEX sessions_newest ON sessions (opened_at, id);
CREATE INDEX sessions_open ON sessions (opened_at, id) WHERE ended_at IS NULL;
CREATE INDEX sessions_by_grant ON sessions (grant_id, opened_at, id);
