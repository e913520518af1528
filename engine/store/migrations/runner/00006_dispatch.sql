-- +goose Up
-- Who a job logs in as, and how many jobs may do so at once; 0: any number.
ALTER TABLE jobs ADD COLUMN login TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN login_limit BIGINT NOT NULL DEFAULT 0;
CREATE INDEX jobs_ready_on ON jobs (device, removal, ready_at, id) WHERE ready_at IS NOT NULL;
CREATE INDEX jobs_running_as ON jobs (login) WHERE state = 'running';
CREATE INDEX jobs_blocked ON jobs (id) WHERE removal = 1 AND blocked_by <> '';
CREATE INDEX grants_ending ON grants (state, ended_at, id) WHERE state = 'ending';
CREATE INDEX grants_expiring ON grants (state, expires_at, id) WHERE state = 'active';

-- Devices that did not answer when they were last asked.
CREATE TABLE silences (
    device   TEXT   NOT NULL PRIMARY KEY,
    since    BIGINT NOT NULL,
    missed   BIGINT NOT NULL, -- attempts since then
    until_at BIGINT NOT NULL, -- when a worker asks again
    why      TEXT   NOT NULL
);
