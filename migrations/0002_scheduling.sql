-- Who leads, what is scheduled, and the ledger of every tick.
CREATE TABLE qj_peers (
  uuid uuid PRIMARY KEY,
  node text NOT NULL,
  pid integer NOT NULL,
  version text NOT NULL,
  started_at timestamptz NOT NULL,
  heartbeat_at timestamptz NOT NULL,
  lag interval NOT NULL DEFAULT '0',
  clock_offset interval NOT NULL DEFAULT '0'
) WITH (fillfactor = 50);

CREATE TABLE qj_lease (
  name text PRIMARY KEY,
  holder uuid,
  node text,
  term bigint NOT NULL DEFAULT 0,
  backend_pid integer,
  backend_start timestamptz,
  acquired_at timestamptz,
  renewed_at timestamptz,
  expires_at timestamptz NOT NULL DEFAULT '-infinity'
) WITH (fillfactor = 50);
INSERT INTO qj_lease (name) VALUES ('scheduler');

CREATE TABLE qj_terms (
  term bigint PRIMARY KEY,
  holder uuid NOT NULL,
  node text NOT NULL,
  acquired_at timestamptz NOT NULL,
  resigned_at timestamptz
);

CREATE TABLE qj_schedules (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL UNIQUE CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_.:-]{0,126}$'),
  description text NOT NULL DEFAULT '',
  worker text NOT NULL CHECK (char_length(worker) BETWEEN 1 AND 127),
  cron text NOT NULL,
  timezone text NOT NULL DEFAULT 'Etc/UTC',
  dst text NOT NULL DEFAULT 'once' CHECK (dst IN ('once', 'skip', 'both')),
  args jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(args) = 'object'),
  queue text NOT NULL DEFAULT 'default' CHECK (char_length(queue) BETWEEN 1 AND 127),
  priority integer NOT NULL DEFAULT 0 CHECK (priority BETWEEN 0 AND 9),
  max_attempts integer NOT NULL DEFAULT 20 CHECK (max_attempts > 0),
  tags text[] NOT NULL DEFAULT '{}',
  uniqueness jsonb CHECK (uniqueness IS NULL OR jsonb_typeof(uniqueness) = 'object'),
  catchup text NOT NULL DEFAULT 'last' CHECK (catchup IN ('skip', 'last', 'all')),
  catchup_window interval NOT NULL DEFAULT '1 day' CHECK (catchup_window > '0' AND catchup_window <= '3650 days'),
  catchup_limit integer NOT NULL DEFAULT 100 CHECK (catchup_limit BETWEEN 1 AND 100000),
  overlap text NOT NULL DEFAULT 'skip' CHECK (overlap IN ('allow', 'skip', 'one_pending', 'cancel_previous')),
  timeout interval CHECK (timeout > '0' AND timeout <= '365 days'),
  max_failures integer CHECK (max_failures BETWEEN 1 AND 1000),
  expected_within interval CHECK (expected_within > '0' AND expected_within <= '3650 days'),
  managed_by text NOT NULL DEFAULT 'ui' CHECK (managed_by IN ('code', 'file', 'ui')),
  paused_at timestamptz,
  paused_by text,
  paused_reason text,
  resume_at timestamptz,
  skip_tick_at timestamptz,
  skip_by text,
  version bigint NOT NULL DEFAULT 1,
  inserted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_by text NOT NULL DEFAULT current_user,
  planned_from timestamptz NOT NULL DEFAULT clock_timestamp(),
  next_run_at timestamptz,
  last_tick_at timestamptz,
  broken_reason text,
  applied_version bigint,
  applied_at timestamptz,
  applied_by text,
  CONSTRAINT qj_schedules_times CHECK (
    planned_from BETWEEN '2000-01-01T00:00Z' AND '9000-01-01T00:00Z'
    AND next_run_at BETWEEN '2000-01-01T00:00Z' AND '9999-01-01T00:00Z'
    AND last_tick_at BETWEEN '2000-01-01T00:00Z' AND '9000-01-01T00:00Z'
    AND paused_at BETWEEN '2000-01-01T00:00Z' AND '9000-01-01T00:00Z'
    AND resume_at BETWEEN '2000-01-01T00:00Z' AND '9000-01-01T00:00Z'
  ),
  CHECK (paused_at IS NOT NULL OR (paused_by IS NULL AND paused_reason IS NULL AND resume_at IS NULL))
) WITH (fillfactor = 70);
COMMENT ON COLUMN qj_schedules.skip_tick_at IS 'This one tick makes no job; it is no part of the definition.';
COMMENT ON COLUMN qj_schedules.next_run_at IS
  'The first tick not yet decided; NULL until the leader has planned: the first one after planned_from.';
CREATE INDEX qj_schedules_due ON qj_schedules (next_run_at) WHERE paused_at IS NULL AND broken_reason IS NULL;
CREATE INDEX qj_schedules_unplanned ON qj_schedules (id)
  WHERE applied_version IS DISTINCT FROM version OR (next_run_at IS NULL AND paused_at IS NULL AND broken_reason IS NULL);
CREATE INDEX qj_schedules_resume ON qj_schedules (resume_at) WHERE resume_at IS NOT NULL;
CREATE INDEX qj_schedules_worker ON qj_schedules (worker);
CREATE INDEX qj_schedules_queue ON qj_schedules (queue) WHERE paused_at IS NULL;

CREATE TABLE qj_schedule_versions (
  schedule_id bigint NOT NULL,
  version bigint NOT NULL,
  definition jsonb NOT NULL,
  author text NOT NULL,
  reason text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (schedule_id, version)
);

-- No foreign key to oban_jobs: pruning a job must not forget that its tick was decided.
CREATE TABLE qj_ticks (
  schedule_id bigint NOT NULL,
  tick_at timestamptz NOT NULL,
  until_at timestamptz,
  ticks bigint,
  outcome text NOT NULL,
  reason text,
  job_id bigint,
  term bigint,
  holder uuid,
  version bigint NOT NULL,
  decided_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (schedule_id, tick_at)
);
COMMENT ON COLUMN qj_ticks.until_at IS
  'Set for a range: every tick from tick_at up to and including until_at shares the outcome.';
CREATE INDEX qj_ticks_decided ON qj_ticks (decided_at);

-- One row while every schedule is frozen, for an incident: ticks are decided, and make no job.
CREATE TABLE qj_freeze (
  frozen boolean PRIMARY KEY DEFAULT true CHECK (frozen),
  frozen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  frozen_by text NOT NULL,
  reason text NOT NULL
);

-- Any edit, by the admin or by psql, makes a new version; one that moves the ticks is planned anew
-- from the instant of the edit, and the span that it leaves undecided (or paused) is recorded as such.
CREATE FUNCTION qj_edit_schedule() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
  at timestamptz := clock_timestamp();
  replans boolean := (NEW.cron, NEW.timezone, NEW.dst, NEW.paused_at)
    IS DISTINCT FROM (OLD.cron, OLD.timezone, OLD.dst, OLD.paused_at);
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
    INSERT INTO qj_ticks (schedule_id, tick_at, until_at, outcome, reason, version, decided_at)
    VALUES (OLD.id, OLD.planned_from, at, 'paused',
            format('paused by %s: %s', OLD.paused_by, coalesce(OLD.paused_reason, 'no reason given')), OLD.version, at)
    ON CONFLICT DO NOTHING;
    NEW.planned_from := at;
  ELSIF replans THEN
    IF coalesce(OLD.next_run_at, OLD.planned_from) <= at THEN
      INSERT INTO qj_ticks (schedule_id, tick_at, until_at, outcome, reason, version, decided_at)
      VALUES (OLD.id, coalesce(OLD.next_run_at, OLD.planned_from), at, 'superseded',
              format('version %s replaced it before a scheduler had decided it', NEW.version), OLD.version, at)
      ON CONFLICT DO NOTHING;
    END IF;
    NEW.planned_from := at;
    NEW.next_run_at := NULL;
  END IF;
  RETURN NEW;
END
$$;

CREATE FUNCTION qj_record_version() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  INSERT INTO qj_schedule_versions (schedule_id, version, definition, author, reason)
  VALUES (
    NEW.id, NEW.version,
    to_jsonb(NEW) - ARRAY['id', 'version', 'inserted_at', 'updated_at', 'updated_by', 'next_run_at', 'planned_from', 'last_tick_at',
                          'skip_tick_at', 'skip_by', 'broken_reason', 'applied_version', 'applied_at', 'applied_by'],
    NEW.updated_by, nullif(current_setting('quarterjack.reason', true), '')
  )
  ON CONFLICT DO NOTHING;
  PERFORM pg_notify(TG_TABLE_SCHEMA || '.qj_schedules', json_build_object('id', NEW.id, 'version', NEW.version)::text);
  RETURN NULL;
END
$$;

CREATE FUNCTION qj_ring_removal() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  PERFORM pg_notify(TG_TABLE_SCHEMA || '.qj_schedules', json_build_object('id', OLD.id, 'removed', true)::text);
  RETURN NULL;
END
$$;

CREATE TRIGGER qj_edit BEFORE UPDATE OF
    name, description, worker, cron, timezone, dst, args, queue, priority, max_attempts, tags, uniqueness,
    catchup, catchup_window, catchup_limit, overlap, timeout, max_failures, expected_within, managed_by, paused_at, paused_by, paused_reason, resume_at
  ON qj_schedules FOR EACH ROW EXECUTE FUNCTION qj_edit_schedule();

CREATE TRIGGER qj_record AFTER INSERT OR UPDATE OF
    name, description, worker, cron, timezone, dst, args, queue, priority, max_attempts, tags, uniqueness,
    catchup, catchup_window, catchup_limit, overlap, timeout, max_failures, expected_within, managed_by, paused_at, paused_by, paused_reason, resume_at
  ON qj_schedules FOR EACH ROW EXECUTE FUNCTION qj_record_version();

CREATE TRIGGER qj_removed AFTER DELETE ON qj_schedules FOR EACH ROW EXECUTE FUNCTION qj_ring_removal();
