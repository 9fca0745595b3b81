-- Past ticks that people ask for: the range, how far it is, and who wanted it.
-- version: the one whose calendar names the ticks, as the dry run showed them.
-- next_tick_at: the first tick of the range that is not yet made. NULL when all are.
-- next_step_at: no job is made before this instant, which keeps the rate across failovers.
SET LOCAL lock_timeout = '5s';

CREATE TABLE qj_backfills (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  request_id text NOT NULL CHECK (char_length(request_id) BETWEEN 1 AND 64),
  schedule_id bigint NOT NULL,
  version bigint NOT NULL,
  from_at timestamptz NOT NULL CHECK (from_at BETWEEN '2000-01-01T00:00Z' AND '9000-01-01T00:00Z'),
  to_at timestamptz NOT NULL,
  per_minute integer NOT NULL CHECK (per_minute BETWEEN 1 AND 6000),
  ticks integer NOT NULL CHECK (ticks BETWEEN 1 AND 100000),
  made integer NOT NULL DEFAULT 0 CHECK (made >= 0),
  next_tick_at timestamptz CHECK (next_tick_at BETWEEN from_at AND to_at),
  next_step_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'stopped', 'done', 'failed')),
  requested_by text NOT NULL,
  reason text NOT NULL CHECK (reason <> ''),
  requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz,
  ended_why text,
  CONSTRAINT qj_backfills_request UNIQUE (request_id),
  CONSTRAINT qj_backfills_range CHECK (from_at < to_at AND to_at <= requested_at),
  CONSTRAINT qj_backfills_ended CHECK ((state = 'running') = (ended_at IS NULL)),
  CONSTRAINT qj_backfills_done CHECK ((state = 'done') = (next_tick_at IS NULL))
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX qj_backfills_running ON qj_backfills (schedule_id) WHERE state = 'running';
CREATE INDEX qj_backfills_schedule ON qj_backfills (schedule_id, id);
