-- How queues are steered, so that it outlives the workers.
SET LOCAL lock_timeout = '5s';

CREATE TABLE qj_queues (
  queue text NOT NULL CHECK (char_length(queue) BETWEEN 1 AND 127),
  node text NOT NULL DEFAULT '',
  paused boolean,
  stopped boolean,
  local_limit integer CHECK (local_limit BETWEEN 1 AND 10000),
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  changed_by text NOT NULL,
  reason text,
  PRIMARY KEY (queue, node)
);
COMMENT ON COLUMN qj_queues.node IS 'Empty for all nodes; what a row of one node says goes before that, NULL says nothing.';
COMMENT ON COLUMN qj_queues.local_limit IS 'NULL: each worker has the limit of its command line.';

CREATE VIEW qj_asked AS
SELECT
  p.uuid,
  coalesce(one.paused, every.paused, false) AS paused,
  coalesce(one.stopped, every.stopped, false) AS stopped,
  coalesce(one.local_limit, every.local_limit) AS local_limit
FROM qj_producers AS p
LEFT JOIN qj_queues AS one ON one.queue = p.queue AND one.node = p.node AND one.node <> ''
LEFT JOIN qj_queues AS every ON every.queue = p.queue AND every.node = '';
COMMENT ON VIEW qj_asked IS 'What qj_queues asks of each producer.';
