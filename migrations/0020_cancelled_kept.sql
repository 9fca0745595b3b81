-- A job may be cancelled before anybody has tried it, between what the stager of Oban for Elixir reads and what it writes.
SET LOCAL lock_timeout = '5s';

CREATE OR REPLACE FUNCTION qj_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  kept boolean := greatest(OLD.attempted_at, OLD.cancelled_at) > timezone('UTC', clock_timestamp()) - interval '10 s';
BEGIN
  IF OLD.state = 'executing' THEN
    EXECUTE format('SELECT %I.qj_lives($1)', TG_TABLE_SCHEMA) INTO kept USING OLD.attempted_by[2];
  END IF;
  IF kept THEN
    EXECUTE format('UPDATE %I.oban_jobs SET state = $2, discarded_at = $3, meta = $4 WHERE id = $1', TG_TABLE_SCHEMA)
      USING OLD.id, OLD.state, OLD.discarded_at, OLD.meta;
  END IF;
  RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER qj_keep AFTER UPDATE OF state ON oban_jobs FOR EACH ROW
  WHEN (
    (
      (OLD.state = 'executing' AND NEW.state IN ('available', 'discarded'))
      OR (OLD.state IN ('completed', 'cancelled', 'discarded') AND NEW.state = 'available')
    )
    AND NEW.attempt = OLD.attempt
    AND NEW.scheduled_at = OLD.scheduled_at
    AND NEW.errors = OLD.errors
    AND (OLD.state = 'cancelled' OR OLD.attempted_by[3] IS NOT NULL)
  )
  EXECUTE FUNCTION qj_keep();
