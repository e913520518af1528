-- +goose Up
-- Asked before every creation: whether a device that was given up answers again.
CREATE INDEX grants_gone ON grants (device, id) WHERE state = 'gone';
