-- migrate: no transaction
-- Indexes of ours on oban_jobs: partial, and built without blocking writers.
DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_tick;
CREATE UNIQUE INDEX CONCURRENTLY qj_jobs_tick ON oban_jobs ((meta ->> 'tick_id')) WHERE meta ? 'tick_id';
DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_unique;
CREATE UNIQUE INDEX CONCURRENTLY qj_jobs_unique ON oban_jobs ((meta ->> 'qj_unique')) WHERE meta ? 'qj_unique';
DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_due;
CREATE INDEX CONCURRENTLY qj_jobs_due ON oban_jobs (scheduled_at, id) WHERE state IN ('scheduled', 'retryable');
DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_executing;
CREATE INDEX CONCURRENTLY qj_jobs_executing ON oban_jobs ((attempted_by[2])) WHERE state = 'executing';
DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_schedule;
CREATE INDEX CONCURRENTLY qj_jobs_schedule ON oban_jobs ((meta ->> 'cron_name'), id) WHERE meta ? 'cron_name';
DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_ended;
CREATE INDEX CONCURRENTLY qj_jobs_ended ON oban_jobs (state, id) WHERE state IN ('completed', 'cancelled', 'discarded');
DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_live;
CREATE INDEX CONCURRENTLY qj_jobs_live ON oban_jobs ((meta ->> 'cron_name'), id)
  WHERE meta ? 'cron_name' AND state IN ('suspended', 'available', 'scheduled', 'executing', 'retryable');
DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_completed;
CREATE INDEX CONCURRENTLY qj_jobs_completed ON oban_jobs (completed_at) WHERE state = 'completed';
DROP INDEX CONCURRENTLY IF EXISTS qj_jobs_exhausted;
CREATE INDEX CONCURRENTLY qj_jobs_exhausted ON oban_jobs (id) WHERE state = 'available' AND attempt >= max_attempts;
