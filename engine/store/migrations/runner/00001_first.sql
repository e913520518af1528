-- Times are Unix milliseconds in UTC, durations nanoseconds, flags 0 or 1.
-- NULL is "not yet"; an id is lower-case base32 behind a letter and a dash.

-- +goose Up
CREATE TABLE snapshots (
    hash TEXT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    body BLOB NOT NULL
);

CREATE TABLE grants (
    id              TEXT   NOT NULL PRIMARY KEY,
    state           TEXT   NOT NULL,
    requester       TEXT   NOT NULL,
    caller          TEXT   NOT NULL,
    reason          TEXT   NOT NULL,
    credential      TEXT   NOT NULL,
    device          TEXT   NOT NULL,
    account         TEXT   NOT NULL,
    uid             BIGINT NOT NULL,
    creates         BIGINT NOT NULL,
    requested_at    BIGINT NOT NULL,
    activated_at    BIGINT,
    expires_at      BIGINT NOT NULL,
    for_ns          BIGINT NOT NULL,
    backstop_at     BIGINT,
    ended_at        BIGINT,
    ended_by        TEXT   NOT NULL,
    no_access_at    BIGINT,
    no_trace_at     BIGINT,
    failure         TEXT   NOT NULL,
    sealed          BLOB,
    collected_at    BIGINT,
    plan_forward    TEXT REFERENCES snapshots (hash),
    plan_removal    TEXT REFERENCES snapshots (hash),
    plan_params     TEXT,
    plan_connection TEXT,
    plan_longest_ns BIGINT NOT NULL,
    outputs         TEXT,
    receipt         TEXT
);
CREATE UNIQUE INDEX grants_one_per_requester ON grants (requester, credential)
    WHERE state NOT IN ('denied', 'cancelled', 'removed', 'gone');
CREATE UNIQUE INDEX grants_one_per_account ON grants (device, account)
    WHERE state NOT IN ('denied', 'cancelled', 'removed', 'gone') AND creates = 1;
CREATE UNIQUE INDEX grants_one_per_uid ON grants (device, uid)
    WHERE state NOT IN ('denied', 'cancelled', 'removed', 'gone') AND creates = 1 AND uid <> 0;
CREATE INDEX grants_newest ON grants (requested_at, id);
CREATE INDEX grants_by_state ON grants (state, requested_at, id);
CREATE INDEX grants_by_requester ON grants (requester, requested_at, id);
CREATE INDEX grants_by_device ON grants (device, requested_at, id);
CREATE INDEX grants_by_credential ON grants (credential, requested_at, id);

-- removal and ready_at are worked out by the store: ready_at is due_at of a
-- waiting job, paused_until of a paused one, and NULL for every other.
CREATE TABLE jobs (
    id              TEXT   NOT NULL PRIMARY KEY,
    grant_id        TEXT   NOT NULL REFERENCES grants (id),
    seq             BIGINT NOT NULL,
    kind            TEXT   NOT NULL,
    removal         BIGINT NOT NULL,
    state           TEXT   NOT NULL,
    device          TEXT   NOT NULL,
    due_at          BIGINT NOT NULL,
    ready_at        BIGINT,
    attempt         BIGINT NOT NULL,
    node            TEXT   NOT NULL,
    execution       TEXT   NOT NULL,
    first_failed_at BIGINT,
    last_error      TEXT   NOT NULL,
    blocked_by      TEXT   NOT NULL,
    paused_until    BIGINT,
    again_at        BIGINT,
    until_at        BIGINT,
    finished_at     BIGINT,
    UNIQUE (grant_id, seq),
    CHECK (state <> 'running' OR node <> '')
);
-- One writer per device and per grant. Every kind of job changes accounts.
CREATE UNIQUE INDEX jobs_one_running_per_device ON jobs (device) WHERE state = 'running';
CREATE UNIQUE INDEX jobs_one_running_per_grant ON jobs (grant_id) WHERE state = 'running';
CREATE INDEX jobs_running_on ON jobs (node) WHERE state = 'running';
CREATE INDEX jobs_ready ON jobs (removal, ready_at, id) WHERE ready_at IS NOT NULL;
CREATE INDEX jobs_open ON jobs (due_at, id) WHERE state IN ('waiting', 'running', 'paused');
CREATE INDEX jobs_finished ON jobs (due_at, id) WHERE state IN ('done', 'cancelled');
CREATE INDEX jobs_by_device ON jobs (device, due_at, id);

CREATE TABLE executions (
    id         TEXT   NOT NULL PRIMARY KEY,
    job_id     TEXT REFERENCES jobs (id),
    grant_id   TEXT REFERENCES grants (id),
    kind       TEXT   NOT NULL,
    template   TEXT   NOT NULL,
    device     TEXT   NOT NULL,
    attempt    BIGINT NOT NULL,
    node       TEXT   NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at   BIGINT,
    outcome    TEXT   NOT NULL,
    error      TEXT   NOT NULL,
    peer       TEXT   NOT NULL,
    connect_ns BIGINT NOT NULL,
    steps      BIGINT NOT NULL,
    log_bytes  BIGINT NOT NULL,
    dropped    BIGINT NOT NULL
);
CREATE INDEX executions_newest ON executions (started_at, id);
CREATE INDEX executions_by_job ON executions (job_id, started_at, id);
CREATE INDEX executions_by_grant ON executions (grant_id, started_at, id);
CREATE INDEX executions_by_device ON executions (device, started_at, id);
CREATE INDEX executions_by_outcome ON executions (outcome, started_at, id);

CREATE TABLE steps (
    execution  TEXT   NOT NULL REFERENCES executions (id),
    n          BIGINT NOT NULL,
    name       TEXT   NOT NULL,
    module     TEXT   NOT NULL,
    status     TEXT   NOT NULL,
    rc         BIGINT NOT NULL,
    attempts   BIGINT NOT NULL,
    started_at BIGINT,
    took_ns    BIGINT NOT NULL,
    message    TEXT   NOT NULL,
    reason     TEXT   NOT NULL,
    log_from   BIGINT NOT NULL,
    log_to     BIGINT NOT NULL,
    PRIMARY KEY (execution, n)
);

-- grant_id is the id of the execution for what an ad hoc run changed.
CREATE TABLE changes (
    grant_id  TEXT   NOT NULL,
    seq       BIGINT NOT NULL,
    execution TEXT   NOT NULL,
    step      BIGINT NOT NULL,
    module    TEXT   NOT NULL,
    object    TEXT   NOT NULL,
    state     TEXT   NOT NULL,
    before    TEXT   NOT NULL,
    after     TEXT   NOT NULL,
    undo      TEXT,
    PRIMARY KEY (grant_id, seq)
);

CREATE TABLE uid_ranges (
    device    TEXT   NOT NULL PRIMARY KEY,
    first_uid BIGINT NOT NULL,
    last_uid  BIGINT NOT NULL,
    latest    BIGINT NOT NULL, -- the uid given last
    latest_at BIGINT NOT NULL
);
CREATE TABLE uids (
    device      TEXT   NOT NULL,
    uid         BIGINT NOT NULL,
    reserved_at BIGINT,
    burned_at   BIGINT,
    PRIMARY KEY (device, uid)
);
CREATE INDEX uids_oldest ON uids (device, reserved_at, uid) WHERE burned_at IS NULL;

CREATE TABLE nodes (
    id        TEXT   NOT NULL PRIMARY KEY,
    name      TEXT   NOT NULL,
    joined_at BIGINT NOT NULL
);

CREATE TABLE audit (
    seq       BIGINT NOT NULL PRIMARY KEY,
    at        BIGINT NOT NULL,
    actor     TEXT   NOT NULL,
    action    TEXT   NOT NULL,
    grant_id  TEXT   NOT NULL,
    detail    TEXT,
    prev_hash TEXT   NOT NULL,
    hash      TEXT   NOT NULL
);
CREATE INDEX audit_by_grant ON audit (grant_id, seq);
-- Where the chain ends: rows cut off its end are missed.
CREATE TABLE audit_head (
    one  BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    seq  BIGINT NOT NULL,
    hash TEXT   NOT NULL
);
INSERT INTO audit_head (one, seq, hash) VALUES (1, 0, '');

CREATE TABLE marks (
    what TEXT   NOT NULL PRIMARY KEY,
    at   BIGINT NOT NULL
);
