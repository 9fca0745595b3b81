-- Oban for Elixir reads what is due and then makes it available, also what ours have staged, claimed or even completed in the
-- meantime; and the Lifeline of every Oban rescues by time alone. Neither changes attempt, errors or scheduled_at, as ours
-- always do: so a job that a live worker of ours runs, or has just ended, is kept.
SET LOCAL lock_timeout = '5s';

CREATE FUNCTION qj_keep() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  kept boolean := OLD.attempted_at > timezone('UTC', clock_timestamp()) - interval '10 s';
BEGIN
  IF OLD.state = 'executing' THEN
    EXECUTE format('SELECT EXISTS (SELECT FROM %I.qj_producers WHERE uuid::text = $1 AND state <> ''dead'')', TG_TABLE_SCHEMA)
      INTO kept USING OLD.attempted_by[2];
  END IF;
  IF kept THEN
    EXECUTE format('UPDATE %I.oban_jobs SET state = $2, discarded_at = $3, meta = $4 WHERE id = $1', TG_TABLE_SCHEMA)
      USING OLD.id, OLD.state, OLD.discarded_at, OLD.meta;
  END IF;
  RETURN NULL;
END
$$;

-- After the update, and not before: that would lock each row of every update once more.
CREATE TRIGGER qj_keep AFTER UPDATE OF state ON oban_jobs FOR EACH ROW
  WHEN (
    (
      (OLD.state = 'executing' AND NEW.state IN ('available', 'discarded'))
      OR (OLD.state IN ('completed', 'cancelled', 'discarded') AND NEW.state = 'available')
    )
    AND NEW.attempt = OLD.attempt
    AND NEW.scheduled_at = OLD.scheduled_at
    AND NEW.errors = OLD.errors
    AND OLD.attempted_by[3] IS NOT NULL
  )
  EXECUTE FUNCTION qj_keep();
