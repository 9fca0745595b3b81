-- What workers can run, who works, and the bell that foreign inserts ring.
CREATE TABLE qj_job_types (
  worker text PRIMARY KEY CHECK (char_length(worker) BETWEEN 1 AND 127),
  description text NOT NULL DEFAULT '',
  args_schema jsonb NOT NULL DEFAULT '{"type": "object"}',
  queue text NOT NULL DEFAULT 'default',
  priority integer NOT NULL DEFAULT 0,
  max_attempts integer NOT NULL DEFAULT 20,
  tags text[] NOT NULL DEFAULT '{}',
  timeout interval,
  uniqueness jsonb,
  schedule jsonb,
  redacted text[] NOT NULL DEFAULT '{}',
  registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  registered_by text NOT NULL
);

CREATE TABLE qj_producers (
  uuid uuid PRIMARY KEY,
  name text NOT NULL,
  node text NOT NULL,
  pid integer NOT NULL,
  version text NOT NULL,
  queue text NOT NULL,
  state text NOT NULL DEFAULT 'running' CHECK (state IN ('running', 'draining', 'dead')),
  paused boolean NOT NULL DEFAULT false,
  local_limit integer NOT NULL CHECK (local_limit > 0),
  running integer NOT NULL DEFAULT 0,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
CREATE INDEX qj_producers_node ON qj_producers (node);

-- Wakes workers for inserts that Quarterjack's own client did not make (that one rings after its commit),
-- and the leader for jobs that are due before it would look by itself.
CREATE FUNCTION qj_ring_inserts() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('quarterjack.rings_itself', true) IS DISTINCT FROM 'yes' THEN
    PERFORM pg_notify(TG_TABLE_SCHEMA || '.oban_insert', json_build_object('queue', queue)::text)
    FROM (SELECT DISTINCT queue FROM inserted WHERE state = 'available') AS waiting;
  END IF;
  PERFORM pg_notify(TG_TABLE_SCHEMA || '.qj_due', '{}')
  FROM inserted
  WHERE state = 'scheduled' AND scheduled_at < timezone('UTC', clock_timestamp()) + interval '1 second'
  LIMIT 1;
  RETURN NULL;
END
$$;

CREATE TRIGGER qj_ring AFTER INSERT ON oban_jobs
  REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT EXECUTE FUNCTION qj_ring_inserts();
