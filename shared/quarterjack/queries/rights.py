"""The rights that a service's role has to have."""

from quarterjack.database import Database


async def missing(db: Database) -> list[str]:
    """Give what this role lacks of what the documentation grants, as `DELETE on oban_jobs`."""
    records = await db.fetch(
        """
        WITH needed AS (
          SELECT
            oid,
            relname,
            CASE
              WHEN relname = 'qj_audit' THEN '{INSERT}'
              WHEN relname = 'qj_schedule_versions' THEN '{SELECT,INSERT}'
              WHEN relname = 'qj_ticks' THEN '{SELECT,INSERT,DELETE}'
              WHEN relkind = 'v' OR relname IN ('qj_migrations', 'oban_peers', 'oban_leaders') THEN '{SELECT}'
              WHEN starts_with(relname, 'qj_') OR relname IN ('oban_jobs', 'oban_producers')
              THEN '{SELECT,INSERT,UPDATE,DELETE}'
            END::text[] AS privileges
          FROM pg_class
          WHERE relnamespace = current_schema()::text::regnamespace AND relkind IN ('r', 'p', 'v')
        )
        SELECT privilege || ' on ' || relname AS missing
        FROM needed
        CROSS JOIN unnest(privileges) AS privilege
        WHERE NOT has_table_privilege(oid, privilege)
        UNION ALL
        SELECT 'USAGE on ' || sequence
        FROM pg_get_serial_sequence('oban_jobs', 'id') AS sequence
        WHERE NOT has_sequence_privilege(sequence, 'USAGE')
        UNION ALL
        SELECT 'EXECUTE on ' || proname
        FROM pg_proc
        WHERE
          pronamespace = current_schema()::text::regnamespace
          AND starts_with(proname, 'qj_')
          AND prorettype <> 'trigger'::regtype
          AND NOT has_function_privilege(oid, 'EXECUTE')
        ORDER BY 1
        """
    )
    return [record["missing"] for record in records]


async def role(db: Database) -> str:
    """Give the name of the role whose rights hold."""
    name: str = await db.fetchval("SELECT current_user")
    return name
