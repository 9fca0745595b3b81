"""The trace summaries: what stands under their name, and their refresh."""

from dataclasses import dataclass

from quarterjack.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What `otel_trace_summaries` is: `kind` as in pg_class.relkind (m for a materialized view)."""

    kind: str
    populated: bool
    unique: bool


async def find_view(db: Database) -> View | None:
    """Look at what stands under the name; None for nothing."""
    record = await db.fetchrow(
        """
        SELECT
          c.relkind::text AS kind,
          c.relispopulated AS populated,
          EXISTS (
            SELECT FROM pg_index AS i
            WHERE
              i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          ) AS unique
        FROM pg_class AS c
        WHERE c.oid = to_regclass('otel_trace_summaries')
        """
    )
    return View(**record) if record else None


async def set_patience(db: Database, *, lock: str, statement: str) -> None:
    """Bound the waits of the current transaction; durations as Postgres writes them."""
    await db.execute(
        "SELECT set_config('lock_timeout', $1, true), set_config('statement_timeout', $2, true)",
        lock,
        statement,
    )


async def refresh(db: Database) -> None:
    """Refresh without blocking readers."""
    await db.execute("REFRESH MATERIALIZED VIEW CONCURRENTLY otel_trace_summaries")


async def populate(db: Database) -> None:
    """Fill a view that never was filled; nobody can read it yet."""
    await db.execute("REFRESH MATERIALIZED VIEW otel_trace_summaries")
