-- Jobs are inserted by one function, in a transaction of the caller's or by qj_enqueue_many, which rings in the same round
-- trip, by two transactions, as qj_enqueue does. Tags are JSON, or NULL for none.
SET LOCAL lock_timeout = '5s';

CREATE FUNCTION qj_insert_many(
  rings_itself text, new_states text[], new_workers text[], new_queues text[], new_args text[], new_metas text[],
  new_tags text[], new_priorities integer[], new_max_attempts integer[], new_scheduled_ats timestamptz[]
) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  job_ids bigint[];
BEGIN
  PERFORM set_config('quarterjack.rings_itself', rings_itself, true);
  WITH inserted AS (
    INSERT INTO oban_jobs
      (state, worker, queue, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at)
    SELECT
      state::oban_job_state, worker, queue, args::jsonb, meta::jsonb,
      CASE WHEN tags IS NULL THEN '{}' ELSE ARRAY(SELECT jsonb_array_elements_text(tags::jsonb)) END,
      priority, max_attempts,
      timezone('UTC', clock_timestamp()),
      timezone('UTC', coalesce(scheduled_at, clock_timestamp()))
    FROM
      unnest(
        new_states, new_workers, new_queues, new_args, new_metas, new_tags, new_priorities, new_max_attempts,
        new_scheduled_ats
      ) WITH ORDINALITY AS
        j (state, worker, queue, args, meta, tags, priority, max_attempts, scheduled_at, place)
    ORDER BY place
    RETURNING id
  )
  SELECT array_agg(id ORDER BY id) INTO job_ids FROM inserted;
  RETURN job_ids;
END
$$;

CREATE PROCEDURE qj_enqueue_many(
  INOUT job_ids bigint[], new_states text[], new_workers text[], new_queues text[], new_args text[], new_metas text[],
  new_tags text[], new_priorities integer[], new_max_attempts integer[], new_scheduled_ats timestamptz[]
) LANGUAGE plpgsql AS $$
BEGIN
  job_ids := qj_insert_many(
    'yes', new_states, new_workers, new_queues, new_args, new_metas, new_tags, new_priorities, new_max_attempts,
    new_scheduled_ats
  );
  COMMIT;
  IF pg_notification_queue_usage() < 0.9 THEN
    PERFORM pg_notify(current_schema() || '.oban_insert', json_build_object('queue', due.queue)::text)
    FROM (
      SELECT DISTINCT queue FROM unnest(new_states, new_queues) AS j (state, queue) WHERE state = 'available'
    ) AS due;
  END IF;
END
$$;
