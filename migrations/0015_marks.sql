-- A program that writes a whole meta, such as an Elixir job that keeps its progress there, writes over the mark of a job that
-- others wait for. Then its end would be noted by nobody, and once it is pruned, nobody knows that it had completed.
SET LOCAL lock_timeout = '5s';

CREATE OR REPLACE FUNCTION qj_note_end() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  outcome text := 'deleted';
BEGIN
  IF TG_OP = 'UPDATE' THEN
    outcome := CASE WHEN NEW.state IN ('completed', 'cancelled', 'discarded') THEN NEW.state END;
  END IF;
  EXECUTE format('INSERT INTO %I.qj_ended (job_id, outcome) VALUES ($1, $2)', TG_TABLE_SCHEMA) USING OLD.id, outcome;
  RETURN NULL;
END
$$;

CREATE TRIGGER qj_unmarked AFTER UPDATE OF meta ON oban_jobs FOR EACH ROW
  WHEN (OLD.meta ? 'qj_followed' AND NOT coalesce(NEW.meta ? 'qj_followed', false))
  EXECUTE FUNCTION qj_note_end();
