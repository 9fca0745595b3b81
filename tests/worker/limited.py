"""A queue with limits over all nodes, as tests claim from it."""

from uuid import UUID

import quarterjack
from quarterjack import NewJob
from quarterjack.model import Job
from quarterjack.queries import limited_claims, limits
from quarterjack.queries.claims import Want
from quarterjack.queries.limits import Limits
from tests.conftest import TestDatabase

HALT = """
CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(1);
  RETURN NULL;
END $$;
CREATE TRIGGER halt BEFORE UPDATE ON qj_queues FOR EACH STATEMENT EXECUTE FUNCTION halt();
"""
BLOCKED = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


async def limit(database: TestDatabase, limit: Limits) -> None:
    await limits.limit(database.pool, "default", limit, by="ana", reason="x")


async def claim(database: TestDatabase, uuid: UUID, demand: int) -> list[Job]:
    want = Want(queue="default", producer=uuid, demand=demand, limited=True)
    jobs, _ = await limited_claims.claim_limited(database.pool, want=want, node="n", nonce="x")
    return jobs


async def enqueue(database: TestDatabase, tenant: str, count: int) -> None:
    await quarterjack.enqueue_many(
        database.pool, [NewJob(worker="count", args={"tenant": tenant})] * count
    )
