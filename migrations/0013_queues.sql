-- How queues are steered and limited, so that it outlives the workers. A limit that no claim could keep must not be written:
-- it would stop the claims of every queue of a worker.
SET LOCAL lock_timeout = '5s';

CREATE TABLE qj_queues (
  queue text NOT NULL CHECK (char_length(queue) BETWEEN 1 AND 127),
  node text NOT NULL DEFAULT '',
  paused boolean,
  stopped boolean,
  local_limit integer CHECK (local_limit BETWEEN 1 AND 10000),
  global_limit integer CHECK (global_limit BETWEEN 1 AND 1000000),
  rate_limit integer CHECK (rate_limit BETWEEN 1 AND 1000000),
  rate_period interval CHECK (rate_period BETWEEN '1 ms' AND '31 days'),
  rate_burst integer CHECK (rate_burst BETWEEN 1 AND 1000000),
  partition_by text,
  claims bigint NOT NULL DEFAULT 0,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_by text NOT NULL,
  reason text,
  PRIMARY KEY (queue, node),
  CONSTRAINT qj_queues_rate
    CHECK ((rate_limit IS NULL) = (rate_period IS NULL) AND (rate_burst IS NULL OR rate_limit IS NOT NULL))
);
COMMENT ON COLUMN qj_queues.node IS 'Empty for all nodes; what a row of one node says goes before that, NULL says nothing.';
COMMENT ON COLUMN qj_queues.local_limit IS 'NULL: each worker has the limit of its command line.';
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

CREATE VIEW qj_asked AS
SELECT
  p.uuid,
  coalesce(one.paused, every.paused, false) AS paused,
  coalesce(one.stopped, every.stopped, false) AS stopped,
  coalesce(one.local_limit, every.local_limit) AS local_limit,
  coalesce(every.global_limit, every.rate_limit) IS NOT NULL AS limited
FROM qj_producers AS p
LEFT JOIN qj_queues AS one ON one.queue = p.queue AND one.node = p.node AND one.node <> ''
LEFT JOIN qj_queues AS every ON every.queue = p.queue AND every.node = '';
COMMENT ON VIEW qj_asked IS 'What qj_queues asks of each producer.';
