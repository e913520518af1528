-- The output of executions, apart from everything else: its retention must
-- never hold the writer of runner.db.

-- +goose Up
CREATE TABLE chunks (
    execution TEXT   NOT NULL,
    start     BIGINT NOT NULL, -- offset of the first byte in the whole log
    size      BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    step      BIGINT NOT NULL,
    stream    TEXT   NOT NULL,
    data      BLOB   NOT NULL,
    PRIMARY KEY (execution, start)
);
