-- What attempts tell of themselves while they run: how far they are, and their last log lines.
SET LOCAL lock_timeout = '5s';

CREATE TABLE qj_journals (
  job_id bigint NOT NULL,
  attempted_at timestamptz NOT NULL,
  attempt integer NOT NULL,
  percent real CHECK (percent BETWEEN 0 AND 100),
  message text,
  lines jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(lines) = 'array'),
  left_out integer NOT NULL DEFAULT 0,
  written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (job_id, attempted_at)
) WITH (fillfactor = 50);
COMMENT ON COLUMN qj_journals.attempted_at IS
  'That of the claim: it tells attempts apart even where a failover of the database issued an id again.';
COMMENT ON COLUMN qj_journals.left_out IS 'How many earlier lines were dropped.';
CREATE INDEX qj_journals_attempted_at ON qj_journals (attempted_at);
