-- A client that is alone inserts and rings in one round trip, yet by two transactions: a commit that notifies holds a lock
-- of the whole server, and would hold it while it writes, or waits for a standby.
SET LOCAL lock_timeout = '5s';

CREATE PROCEDURE qj_enqueue(
  INOUT job_id bigint, new_worker text, new_queue text, new_args text, new_meta text, new_tags text[],
  new_priority integer, new_max_attempts integer
) LANGUAGE plpgsql AS $$
BEGIN
  PERFORM set_config('quarterjack.rings_itself', 'yes', true);
  INSERT INTO oban_jobs (worker, queue, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at)
  VALUES (
    new_worker, new_queue, new_args::jsonb, new_meta::jsonb, new_tags, new_priority, new_max_attempts,
    timezone('UTC', clock_timestamp()), timezone('UTC', clock_timestamp())
  )
  RETURNING id INTO job_id;
  COMMIT;
  IF pg_notification_queue_usage() < 0.9 THEN
    PERFORM pg_notify(current_schema() || '.oban_insert', json_build_object('queue', new_queue)::text);
  END IF;
END
$$;
