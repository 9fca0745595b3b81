-- Oban's own tables, as its version 14 makes them; an existing Oban 14 is left as it is.
DO $migration$
DECLARE
  marker text := obj_description(to_regclass('oban_jobs'), 'pg_class');
BEGIN
  IF to_regclass('oban_jobs') IS NOT NULL THEN
    IF marker ~ '^[0-9]+$' AND marker::integer < 14 THEN
      RAISE EXCEPTION 'oban_jobs is at Oban version %, Quarterjack needs 14', marker
        USING HINT = 'Run Oban.Migration.up(version: 14) with Oban >= 2.21 first, then migrate again.';
    END IF;
  ELSE
    CREATE TYPE oban_job_state AS ENUM (
      'available', 'suspended', 'scheduled', 'executing', 'retryable', 'completed', 'discarded', 'cancelled'
    );

    CREATE TABLE oban_jobs (
      id bigserial PRIMARY KEY,
      state oban_job_state NOT NULL DEFAULT 'available',
      queue text NOT NULL DEFAULT 'default',
      worker text NOT NULL,
      args jsonb NOT NULL DEFAULT '{}',
      errors jsonb[] NOT NULL DEFAULT ARRAY[]::jsonb[],
      attempt integer NOT NULL DEFAULT 0,
      max_attempts integer NOT NULL DEFAULT 20,
      inserted_at timestamp(6) without time zone NOT NULL DEFAULT timezone('UTC', now()),
      scheduled_at timestamp(6) without time zone NOT NULL DEFAULT timezone('UTC', now()),
      attempted_at timestamp(6) without time zone,
      completed_at timestamp(6) without time zone,
      attempted_by text[],
      discarded_at timestamp(6) without time zone,
      priority integer NOT NULL DEFAULT 0,
      tags text[] DEFAULT ARRAY[]::text[],
      meta jsonb DEFAULT '{}',
      cancelled_at timestamp(6) without time zone,
      CONSTRAINT attempt_range CHECK (attempt >= 0 AND attempt <= max_attempts),
      CONSTRAINT positive_max_attempts CHECK (max_attempts > 0),
      CONSTRAINT queue_length CHECK (char_length(queue) > 0 AND char_length(queue) < 128),
      CONSTRAINT worker_length CHECK (char_length(worker) > 0 AND char_length(worker) < 128)
    );
    ALTER TABLE oban_jobs ADD CONSTRAINT non_negative_priority CHECK (priority >= 0) NOT VALID;

    CREATE INDEX oban_jobs_state_queue_priority_scheduled_at_id_index
      ON oban_jobs (state, queue, priority, scheduled_at, id);
    CREATE INDEX oban_jobs_args_index ON oban_jobs USING gin (args);
    CREATE INDEX oban_jobs_meta_index ON oban_jobs USING gin (meta);
    CREATE INDEX oban_jobs_state_cancelled_at_index ON oban_jobs (state, cancelled_at);
    CREATE INDEX oban_jobs_state_discarded_at_index ON oban_jobs (state, discarded_at);

    COMMENT ON TABLE oban_jobs IS '14';
  END IF;
END
$migration$;

-- The leaders of Elixir's Oban, which a database made by oban-py lacks.
CREATE UNLOGGED TABLE IF NOT EXISTS oban_peers (
  name text PRIMARY KEY,
  node text NOT NULL,
  started_at timestamp without time zone NOT NULL,
  expires_at timestamp without time zone NOT NULL
);

-- The two tables that oban-py adds, so that it runs on the same database.
CREATE UNLOGGED TABLE IF NOT EXISTS oban_leaders (
  name text PRIMARY KEY DEFAULT 'oban',
  node text NOT NULL,
  elected_at timestamp without time zone NOT NULL,
  expires_at timestamp without time zone NOT NULL
);

CREATE UNLOGGED TABLE IF NOT EXISTS oban_producers (
  uuid uuid PRIMARY KEY,
  name text NOT NULL DEFAULT 'oban',
  node text NOT NULL,
  queue text NOT NULL,
  meta jsonb NOT NULL DEFAULT '{}',
  started_at timestamp without time zone NOT NULL DEFAULT timezone('UTC', now()),
  updated_at timestamp without time zone NOT NULL DEFAULT timezone('UTC', now())
);
