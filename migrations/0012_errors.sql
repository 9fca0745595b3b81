-- How an error is added to those of a job, in both layouts that Oban's tables have. Postgres appends to arrays of one
-- dimension only; a row that another program wrote with more must not fail the statement that rescues its neighbours.
SET LOCAL lock_timeout = '5s';

CREATE FUNCTION qj_with_error(errors jsonb[], error jsonb) RETURNS jsonb[] LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN array_ndims(errors) > 1 THEN ARRAY(SELECT unnest(errors)) ELSE errors END || error;

CREATE FUNCTION qj_with_error(errors jsonb, error jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN jsonb_typeof(errors) = 'array' THEN errors ELSE jsonb_build_array(errors) END || error;
