-- What a failover of the database takes back, and for how long nobody led.
SET LOCAL lock_timeout = '5s';

ALTER TABLE qj_terms ADD COLUMN free_since timestamptz;
COMMENT ON COLUMN qj_terms.free_since IS 'The last sign of life of the term before: from then to acquired_at nobody led.';

CREATE TABLE qj_lost_ticks (
  schedule_id bigint NOT NULL,
  tick_at timestamptz NOT NULL,
  job_id bigint,
  decided_at timestamptz NOT NULL,
  reported_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  reported_by text NOT NULL,
  PRIMARY KEY (schedule_id, tick_at, decided_at)
);
COMMENT ON TABLE qj_lost_ticks IS
  'Decisions that Postgres had acknowledged and then lost; the tick was decided again, and its job may run twice.';
