-- What a file last said of each schedule that it manages, so that an edit elsewhere can be told from it.
SET LOCAL lock_timeout = '5s';

CREATE TABLE qj_managed (
  schedule_id bigint PRIMARY KEY REFERENCES qj_schedules (id) ON DELETE CASCADE,
  source text NOT NULL CHECK (char_length(source) BETWEEN 1 AND 127),
  definition jsonb NOT NULL CHECK (jsonb_typeof(definition) = 'object'),
  version bigint NOT NULL,
  applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON COLUMN qj_managed.definition IS 'By field, as a person writes it: lengths of time are texts such as 1h 30m.';
CREATE INDEX qj_managed_source ON qj_managed (source);
