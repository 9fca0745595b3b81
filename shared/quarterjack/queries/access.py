"""Who may sign in, which sessions are open, and what was done."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A row of qj_users."""

    id: int
    name: str
    password_hash: str | None
    role: str
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An open sign-in link, and whose it is; without a name the first admin's."""

    name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """An open session and its user, as they are now."""

    token_hash: bytes
    csrf_token: str
    user_id: int
    name: str
    role: str
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    user_agent: str
    address: str


async def any_user(db: Database) -> bool:
    """Say whether someone was ever made a user."""
    return bool(await db.fetchval("SELECT EXISTS (SELECT FROM qj_users)"))


async def find_user(db: Database, name: str) -> User | None:
    """Read one user by name."""
    record = await db.fetchrow(
        "SELECT id, name, password_hash, role, disabled_at FROM qj_users WHERE name = $1", name
    )
    return User(**record) if record else None


async def first_admin(db: Database) -> User | None:
    """Read the admin who was made first and may sign in."""
    record = await db.fetchrow(
        """
        SELECT id, name, password_hash, role, disabled_at
        FROM qj_users
        WHERE role = 'admin' AND disabled_at IS NULL
        ORDER BY id
        LIMIT 1
        """
    )
    return User(**record) if record else None


async def set_password(db: Database, user_id: int, password_hash: str) -> None:
    """Keep a new hash."""
    await db.execute("UPDATE qj_users SET password_hash = $2 WHERE id = $1", user_id, password_hash)


async def close_sessions(db: Database, user_id: int, *, but: bytes = b"") -> None:
    """End a user's sessions, all but one if it is given."""
    await db.execute(
        "DELETE FROM qj_sessions WHERE user_id = $1 AND token_hash <> $2", user_id, but
    )


async def add_first_admin(db: Database, name: str, password_hash: str | None) -> int | None:
    """Make the first user, an admin; None if there is one already. Takes turns until the commit."""
    await db.execute("SELECT pg_advisory_xact_lock(hashtextextended('qj_first_admin', 0))")
    id: int | None = await db.fetchval(
        """
        INSERT INTO qj_users (name, password_hash, role)
        SELECT $1, $2, 'admin'
        WHERE NOT EXISTS (SELECT FROM qj_users)
        RETURNING id
        """,
        name,
        password_hash,
    )
    return id


async def open_session(
    db: Database,
    user_id: int,
    *,
    token_hash: bytes,
    csrf_token: str,
    user_agent: str,
    address: str,
    lasts: timedelta,
) -> None:
    """Open a session, note the sign-in, and forget sessions that have ended."""
    await db.execute("DELETE FROM qj_sessions WHERE expires_at < clock_timestamp()")
    await db.execute(
        """
        WITH seen AS (
          UPDATE qj_users
          SET signed_in_at = clock_timestamp()
          WHERE id = $1
        )
        INSERT INTO qj_sessions (user_id, token_hash, csrf_token, user_agent, address, expires_at)
        VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6::interval)
        """,
        user_id,
        token_hash,
        csrf_token,
        user_agent,
        address,
        lasts,
    )


async def find_session(db: Database, token_hash: bytes, *, idle: timedelta) -> Session | None:
    """Read an open session with the user's present role; None if it ended or was idle too long."""
    record = await db.fetchrow(
        """
        SELECT
          s.token_hash, s.csrf_token, s.user_id, u.name, u.role, s.created_at, s.seen_at,
          s.expires_at, s.user_agent, s.address
        FROM qj_sessions AS s
        JOIN qj_users AS u ON u.id = s.user_id
        WHERE
          s.token_hash = $1
          AND s.expires_at > clock_timestamp()
          AND s.seen_at > clock_timestamp() - $2::interval
          AND u.disabled_at IS NULL
        """,
        token_hash,
        idle,
    )
    return Session(**record) if record else None


async def touch_session(db: Database, token_hash: bytes) -> None:
    """Note that the session was used, at most twice a minute."""
    await db.execute(
        """
        UPDATE qj_sessions
        SET seen_at = clock_timestamp()
        WHERE token_hash = $1 AND seen_at < clock_timestamp() - interval '30 seconds'
        """,
        token_hash,
    )


async def close_session(db: Database, token_hash: bytes) -> None:
    """End one session."""
    await db.execute("DELETE FROM qj_sessions WHERE token_hash = $1", token_hash)


async def give_role(db: Database, name: str, role: str) -> None:
    """Make an account without a password, or change the role of one."""
    await db.execute(
        """
        INSERT INTO qj_users (name, role)
        VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE
        SET role = excluded.role
        """,
        name,
        role,
    )


async def make_link(
    db: Database, token_hash: bytes, *, lasts: timedelta, name: str | None = None
) -> None:
    """Keep a one-time sign-in link, of an account or of the first admin."""
    await db.execute(
        """
        INSERT INTO qj_sign_in_links (token_hash, expires_at, name)
        VALUES ($1, clock_timestamp() + $2::interval, $3)
        """,
        token_hash,
        lasts,
        name,
    )


async def find_link(db: Database, token_hash: bytes) -> Link | None:
    """Read a link; None if it was used, has expired, or never was."""
    record = await db.fetchrow(
        """
        SELECT name
        FROM qj_sign_in_links
        WHERE token_hash = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
        """,
        token_hash,
    )
    return Link(**record) if record else None


async def use_link(db: Database, token_hash: bytes) -> bool:
    """Use a link up; False if it was used, has expired, or never was."""
    record: asyncpg.Record | None = await db.fetchrow(
        """
        UPDATE qj_sign_in_links
        SET used_at = clock_timestamp()
        WHERE token_hash = $1 AND used_at IS NULL AND expires_at > clock_timestamp()
        RETURNING token_hash
        """,
        token_hash,
    )
    return record is not None


async def record(
    db: Database,
    *,
    actor: str,
    action: str,
    address: str = "",
    target: str = "",
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    reason: str | None = None,
    result: str = "ok",
) -> None:
    """Add an entry to the audit."""
    await db.execute(
        """
        INSERT INTO qj_audit (actor, action, address, target, before, after, reason, result)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
        """,
        actor,
        action,
        address,
        target,
        before,
        after,
        reason,
        result,
    )
