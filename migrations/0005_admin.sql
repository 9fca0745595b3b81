-- Who may sign in to the admin, and what they did.
CREATE TABLE qj_users (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name text NOT NULL CHECK (name = lower(name) AND char_length(name) BETWEEN 1 AND 127),
  password_hash text,
  role text NOT NULL DEFAULT 'viewer' CHECK (role IN ('viewer', 'operator', 'admin')),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  signed_in_at timestamptz,
  disabled_at timestamptz,
  CONSTRAINT qj_users_name_key UNIQUE (name)
);

CREATE TABLE qj_sessions (
  token_hash bytea PRIMARY KEY,
  user_id bigint NOT NULL REFERENCES qj_users (id) ON DELETE CASCADE,
  csrf_token text NOT NULL,
  user_agent text NOT NULL DEFAULT '',
  address text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX qj_sessions_user ON qj_sessions (user_id);
CREATE INDEX qj_sessions_expires ON qj_sessions (expires_at);

CREATE TABLE qj_sign_in_links (
  token_hash bytea PRIMARY KEY,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  used_at timestamptz
);

CREATE TABLE qj_audit (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  actor text NOT NULL,
  address text NOT NULL DEFAULT '',
  action text NOT NULL,
  target text NOT NULL DEFAULT '',
  before jsonb,
  after jsonb,
  reason text,
  result text NOT NULL DEFAULT 'ok' CHECK (result IN ('ok', 'denied', 'failed', 'conflict'))
);
