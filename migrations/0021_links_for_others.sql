-- A one-time link may be for an account by name, as it is for one that was just made; without, it is the first admin's.
SET LOCAL lock_timeout = '5s';

ALTER TABLE qj_sign_in_links ADD COLUMN name text;
