"""The record of applied migrations, and the turn-taking of their runners."""

from quarterjack.database import Database


async def take_turn(db: Database) -> bool:
    """Take the runners' lock if it is free; it ends with the session."""
    return bool(
        await db.fetchval("SELECT pg_try_advisory_lock(hashtextextended('quarterjack-migrate', 0))")
    )


async def make_schema(db: Database, schema: str) -> None:
    """Make the schema unless it exists, named in an identifier's own quotes."""
    exists = await db.fetchval("SELECT to_regnamespace($1) IS NOT NULL", schema)
    if not exists:
        await db.execute(f'CREATE SCHEMA "{schema}"')


async def prepare(db: Database) -> None:
    """Make the record."""
    await db.execute(
        """
        CREATE TABLE IF NOT EXISTS qj_migrations (
          name text PRIMARY KEY,
          digest text NOT NULL,
          applied_at timestamptz NOT NULL DEFAULT clock_timestamp()
        )
        """
    )


async def applied(db: Database) -> dict[str, str]:
    """Give the digest of each applied migration."""
    records = await db.fetch("SELECT name, digest FROM qj_migrations ORDER BY name")
    return {record["name"]: record["digest"] for record in records}


async def record(db: Database, name: str, digest: str) -> None:
    """Note that a migration was applied."""
    await db.execute("INSERT INTO qj_migrations (name, digest) VALUES ($1, $2)", name, digest)


async def limit_waits(db: Database, *, seconds: int) -> None:
    """Let the statements of this transaction wait for a lock no longer than this."""
    await db.execute("SELECT set_config('lock_timeout', $1, true)", f"{seconds}s")
