"""The indexes of what jobs carry: a GIN index keeps the keys of rows that are gone, until it is built anew."""

from quarterjack.database import Database


async def outgrown(db: Database, *, least: int) -> list[str]:
    """Give those of Oban's indexes of args and meta that are larger than `least` bytes and than their whole table.

    And those of which an earlier rebuild has left a part behind, which each write keeps up. None while one is built.
    """
    records = await db.fetch(
        """
        SELECT i.relname
        FROM pg_index AS x
        JOIN pg_class AS i ON i.oid = x.indexrelid
        WHERE
          x.indrelid = to_regclass('oban_jobs')
          AND i.relname IN ('oban_jobs_args_index', 'oban_jobs_meta_index')
          AND (
            pg_relation_size(i.oid) > greatest($1, pg_table_size(x.indrelid))
            OR EXISTS (
              SELECT
              FROM pg_index AS l
              JOIN pg_class AS c ON c.oid = l.indexrelid
              WHERE l.indrelid = x.indrelid AND c.relname IN (i.relname || '_ccnew', i.relname || '_ccold')
            )
          )
          AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index AS p WHERE p.relid = x.indrelid)
        ORDER BY i.relname
        """,
        least,
    )
    return [record["relname"] for record in records]


async def rebuild_args(db: Database) -> None:
    """Build the index of args anew, beside all that reads and writes; waits for each transaction that began before."""
    await db.execute("DROP INDEX CONCURRENTLY IF EXISTS oban_jobs_args_index_ccnew")
    await db.execute("DROP INDEX CONCURRENTLY IF EXISTS oban_jobs_args_index_ccold")
    await db.execute("REINDEX INDEX CONCURRENTLY oban_jobs_args_index")


async def rebuild_meta(db: Database) -> None:
    """Build the index of meta anew, as `rebuild_args` does that of args."""
    await db.execute("DROP INDEX CONCURRENTLY IF EXISTS oban_jobs_meta_index_ccnew")
    await db.execute("DROP INDEX CONCURRENTLY IF EXISTS oban_jobs_meta_index_ccold")
    await db.execute("REINDEX INDEX CONCURRENTLY oban_jobs_meta_index")
