-- How many jobs of a queue run at once on all nodes together, and how many start in a time.
SET LOCAL lock_timeout = '5s';

ALTER TABLE qj_queues
  ADD COLUMN global_limit integer,
  ADD COLUMN rate_limit integer,
  ADD COLUMN rate_period interval,
  ADD COLUMN rate_burst integer,
  ADD COLUMN partition_by text,
  ADD COLUMN claims bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN qj_queues.global_limit IS 'Limits are those of the row of all nodes, whose node is empty.';
COMMENT ON COLUMN qj_queues.partition_by IS 'A key of args: each of its values has the limits for itself.';
COMMENT ON COLUMN qj_queues.claims IS 'Counts the claims under these limits, so that of two at once one gets nothing.';

CREATE TABLE qj_rates (
  queue text NOT NULL,
  part text NOT NULL,
  free_at timestamptz NOT NULL,
  PRIMARY KEY (queue, part)
);
COMMENT ON COLUMN qj_rates.free_at IS 'When the rate of this part is whole again; a row whose time is over says nothing.';
CREATE INDEX qj_rates_free_at ON qj_rates (free_at);

CREATE OR REPLACE VIEW qj_asked AS
SELECT
  p.uuid,
  coalesce(one.paused, every.paused, false) AS paused,
  coalesce(one.stopped, every.stopped, false) AS stopped,
  coalesce(one.local_limit, every.local_limit) AS local_limit,
  coalesce(every.global_limit, every.rate_limit) IS NOT NULL AS limited
FROM qj_producers AS p
LEFT JOIN qj_queues AS one ON one.queue = p.queue AND one.node = p.node AND one.node <> ''
LEFT JOIN qj_queues AS every ON every.queue = p.queue AND every.node = '';
