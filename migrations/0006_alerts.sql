-- migrate: no transaction
-- What needs a person, and where it was told; each statement can be run again.
CREATE TABLE IF NOT EXISTS qj_alerts (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  schedule_id bigint NOT NULL,
  schedule text NOT NULL,
  tick_at timestamptz NOT NULL,
  kind text NOT NULL CHECK (kind IN ('undecided', 'uncompleted', 'paused')),
  message text NOT NULL,
  raised_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  resolved_at timestamptz,
  resolution text,
  CONSTRAINT qj_alerts_tick UNIQUE (schedule_id, tick_at, kind)
);
-- While a schedule is late it is late once, however many ticks pass.
DROP INDEX CONCURRENTLY IF EXISTS qj_alerts_open;
CREATE UNIQUE INDEX CONCURRENTLY qj_alerts_open ON qj_alerts (schedule_id, (kind = 'paused')) WHERE resolved_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS qj_alerts_resolved;
CREATE INDEX CONCURRENTLY qj_alerts_resolved ON qj_alerts (resolved_at) WHERE resolved_at IS NOT NULL;

CREATE TABLE IF NOT EXISTS qj_alert_deliveries (
  alert_id bigint NOT NULL REFERENCES qj_alerts (id) ON DELETE CASCADE,
  channel text NOT NULL,
  event text NOT NULL CHECK (event IN ('raised', 'resolved')),
  attempts bigint NOT NULL DEFAULT 0,
  next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  delivered_at timestamptz,
  last_error text,
  PRIMARY KEY (alert_id, channel, event)
);
DROP INDEX CONCURRENTLY IF EXISTS qj_alert_deliveries_due;
CREATE INDEX CONCURRENTLY qj_alert_deliveries_due ON qj_alert_deliveries (channel, next_attempt_at) WHERE delivered_at IS NULL;

-- Each schedule's last completed run, which outlives the job: another Oban may prune that after a minute.
CREATE TABLE IF NOT EXISTS qj_completions (
  schedule_id bigint PRIMARY KEY,
  job_id bigint NOT NULL,
  completed_at timestamptz NOT NULL
);
DROP INDEX CONCURRENTLY IF EXISTS qj_completions_newest;
CREATE INDEX CONCURRENTLY qj_completions_newest ON qj_completions (completed_at);

DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_completed_runs;
CREATE INDEX CONCURRENTLY qj_jobs_completed_runs ON oban_jobs (completed_at) WHERE state = 'completed' AND meta ? 'cron_name';
DROP INDEX CONCURRENTLY IF EXISTS qj_schedules_expected;
CREATE INDEX CONCURRENTLY qj_schedules_expected ON qj_schedules (next_run_at)
  WHERE expected_within IS NOT NULL AND paused_at IS NULL;
DROP INDEX CONCURRENTLY IF EXISTS qj_schedules_may_fail;
CREATE INDEX CONCURRENTLY qj_schedules_may_fail ON qj_schedules (id) WHERE max_failures IS NOT NULL AND paused_at IS NULL;
