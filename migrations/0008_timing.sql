-- When a schedule runs, beyond its cron: jitter, a first and a last instant, and times at which ticks make no job.
-- The release before this one runs on it: each column has the default that means what that release does.
SET LOCAL lock_timeout = '5s';

ALTER TABLE qj_schedules
  ADD COLUMN jitter interval NOT NULL DEFAULT '0',
  ADD COLUMN start_at timestamptz,
  ADD COLUMN end_at timestamptz,
  ADD COLUMN blackouts text[] NOT NULL DEFAULT '{}',
  ADD COLUMN calendars text[] NOT NULL DEFAULT '{}',
  ADD CONSTRAINT qj_schedules_jitter CHECK (jitter BETWEEN '0' AND '1 day') NOT VALID,
  ADD CONSTRAINT qj_schedules_ends CHECK (start_at <= end_at) NOT VALID;
COMMENT ON COLUMN qj_schedules.jitter IS 'All ticks come later by the same part of it, made from the name.';
COMMENT ON COLUMN qj_schedules.blackouts IS 'Windows of wall time, such as sat,sun or 22:00-06:00, in which ticks make no job.';
COMMENT ON COLUMN qj_schedules.calendars IS 'Names of qj_calendars; on their days ticks make no job.';

CREATE TABLE qj_calendars (
  name text PRIMARY KEY CHECK (char_length(name) BETWEEN 1 AND 100),
  days jsonb NOT NULL CHECK (jsonb_typeof(days) = 'object'),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_by text NOT NULL
);
COMMENT ON COLUMN qj_calendars.days IS 'From dates, as 2026-12-25, to what the day is called.';

CREATE OR REPLACE FUNCTION qj_edit_schedule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  at timestamptz := clock_timestamp();
  -- The clock may have been set back: what a version left behind must not be planned again.
  from_then timestamptz := greatest(at, OLD.planned_from);
  -- Both were the end of something, which has its line already.
  open_from timestamptz := greatest(OLD.planned_from, OLD.last_tick_at) + interval '1 microsecond';
  replans boolean := (NEW.name, NEW.cron, NEW.timezone, NEW.dst, NEW.jitter, NEW.start_at, NEW.end_at, NEW.paused_at)
    IS DISTINCT FROM (OLD.name, OLD.cron, OLD.timezone, OLD.dst, OLD.jitter, OLD.start_at, OLD.end_at, OLD.paused_at);
BEGIN
  IF NEW.version = OLD.version THEN
    NEW.version := OLD.version + 1;
  END IF;
  NEW.updated_at := at;
  NEW.broken_reason := NULL;

  IF OLD.paused_at IS NOT NULL AND NEW.paused_at IS NULL THEN
    NEW.paused_by := NULL;
    NEW.paused_reason := NULL;
    NEW.resume_at := NULL;
  END IF;

  IF OLD.paused_at IS NOT NULL THEN
    IF open_from <= from_then THEN
      INSERT INTO qj_ticks (schedule_id, tick_at, until_at, outcome, reason, version, decided_at)
      VALUES (OLD.id, open_from, from_then, 'paused',
              format('paused by %s: %s', OLD.paused_by, coalesce(OLD.paused_reason, 'no reason given')), OLD.version, at)
      ON CONFLICT DO NOTHING;
    END IF;
    NEW.planned_from := from_then;
  ELSIF replans THEN
    IF coalesce(OLD.next_run_at, open_from) <= from_then THEN
      INSERT INTO qj_ticks (schedule_id, tick_at, until_at, outcome, reason, version, decided_at)
      VALUES (OLD.id, coalesce(OLD.next_run_at, open_from), from_then, 'superseded',
              format('version %s replaced it before a scheduler had decided it', NEW.version), OLD.version, at)
      ON CONFLICT DO NOTHING;
    END IF;
    NEW.planned_from := from_then;
    NEW.next_run_at := NULL;
  END IF;
  RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER qj_edit BEFORE UPDATE OF
    name, description, worker, cron, timezone, dst, jitter, start_at, end_at, blackouts, calendars, args, queue,
    priority, max_attempts, tags, uniqueness, catchup, catchup_window, catchup_limit, overlap, timeout, max_failures,
    expected_within, managed_by, paused_at, paused_by, paused_reason, resume_at
  ON qj_schedules FOR EACH ROW EXECUTE FUNCTION qj_edit_schedule();

CREATE OR REPLACE TRIGGER qj_record AFTER INSERT OR UPDATE OF
    name, description, worker, cron, timezone, dst, jitter, start_at, end_at, blackouts, calendars, args, queue,
    priority, max_attempts, tags, uniqueness, catchup, catchup_window, catchup_limit, overlap, timeout, max_failures,
    expected_within, managed_by, paused_at, paused_by, paused_reason, resume_at
  ON qj_schedules FOR EACH ROW EXECUTE FUNCTION qj_record_version();
