-- A job is kept by whoever would have taken it, with its own rights and search_path, as any update: triggers of users' own on
-- oban_jobs may need them. Only whether a producer lives is asked as the owner, for a role of another Oban may not read that.
SET LOCAL lock_timeout = '5s';

CREATE FUNCTION qj_lives(producer text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
BEGIN ATOMIC
  SELECT EXISTS (SELECT FROM qj_producers WHERE uuid::text = producer AND state <> 'dead');
END;

CREATE OR REPLACE FUNCTION qj_keep() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  kept boolean := OLD.attempted_at > timezone('UTC', clock_timestamp()) - interval '10 s';
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
