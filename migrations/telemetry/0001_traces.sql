-- Traces and their summaries, only where ServiceRadar's own do not exist.
CREATE TABLE IF NOT EXISTS otel_traces (
  "timestamp" timestamptz NOT NULL,
  trace_id text NOT NULL,
  span_id text NOT NULL,
  parent_span_id text,
  name text,
  kind integer,
  start_time_unix_nano bigint,
  end_time_unix_nano bigint,
  service_name text,
  service_version text,
  service_instance text,
  scope_name text,
  scope_version text,
  status_code integer,
  status_message text,
  attributes text,
  resource_attributes text,
  events text,
  links text,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY ("timestamp", trace_id, span_id)
);

DO $migration$
BEGIN
  IF to_regclass('otel_trace_summaries') IS NOT NULL THEN
    RETURN;
  END IF;

  CREATE MATERIALIZED VIEW otel_trace_summaries AS
  SELECT
    trace_id,
    max("timestamp") AS "timestamp",
    max(span_id) FILTER (WHERE is_root) AS root_span_id,
    max(name) FILTER (WHERE is_root) AS root_span_name,
    max(service_name) FILTER (WHERE is_root) AS root_service_name,
    max(kind) FILTER (WHERE is_root) AS root_span_kind,
    min(start_time_unix_nano) AS start_time_unix_nano,
    max(end_time_unix_nano) AS end_time_unix_nano,
    greatest(0, (max(end_time_unix_nano) - min(start_time_unix_nano)) / 1000000.0)::double precision AS duration_ms,
    max(status_code) AS status_code,
    string_agg(DISTINCT nullif(status_message, ''), '; ') AS status_message,
    array_agg(DISTINCT service_name) FILTER (WHERE service_name IS NOT NULL) AS service_set,
    count(*) AS span_count,
    count(*) FILTER (WHERE status_code = 2) AS error_count
  FROM (
    SELECT *, coalesce(parent_span_id, '') = '' AS is_root
    FROM otel_traces
    WHERE "timestamp" > now() - interval '7 days'
  ) AS spans
  GROUP BY trace_id
  WITH NO DATA;

  CREATE UNIQUE INDEX otel_trace_summaries_trace_id ON otel_trace_summaries (trace_id);
END
$migration$;
