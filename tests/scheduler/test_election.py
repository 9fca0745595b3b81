"""One lease, whose term only grows; and replicas that take turns at it."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from quarterjack.database import Database
from quarterjack.queries import lease
from quarterjack.queries.lease import Standing
from tests.conftest import TestDatabase
from tests.scheduler.replica import add_schedule, replica
from tests.waiting import until

TTL = timedelta(seconds=1.5)
LEASE = "SELECT * FROM qj_lease"
LEADER = """
SELECT p.node FROM qj_lease AS l JOIN qj_peers AS p ON p.uuid = l.holder WHERE l.expires_at > clock_timestamp()
"""


async def beat(db: Database, uuid: UUID, term: int = 0) -> Standing:
    return await lease.beat(
        db,
        uuid=uuid,
        node="n",
        pid=1,
        version="0",
        started_at=datetime.now(UTC),
        lag=timedelta(0),
        clock_offset=timedelta(0),
        term=term,
        ttl=TTL,
    )


async def acquire(db: Database, uuid: UUID, seen: int) -> int | None:
    return await lease.acquire(db, uuid=uuid, node="n", seen_term=seen, ttl=TTL)


async def test_of_many_who_see_it_free_one_acquires(database: TestDatabase) -> None:
    terms = await asyncio.gather(*(acquire(database.pool, uuid4(), 0) for _ in range(8)))

    assert [term for term in terms if term is not None] == [1]
    assert await database.pool.fetchval("SELECT count(*) FROM qj_terms") == 1


async def test_an_old_sight_of_the_lease_acquires_nothing(database: TestDatabase) -> None:
    await acquire(database.pool, uuid4(), 0)
    await database.pool.execute("UPDATE qj_lease SET expires_at = '-infinity'")

    assert await acquire(database.pool, uuid4(), 0) is None
    assert await acquire(database.pool, uuid4(), 1) == 2


@pytest.mark.parametrize("seconds", [0.5, 1.5, 30])
async def test_the_lease_lasts_as_long_as_was_asked(database: TestDatabase, seconds: float) -> None:
    ttl, uuid = timedelta(seconds=seconds), uuid4()
    await lease.acquire(database.pool, uuid=uuid, node="n", seen_term=0, ttl=ttl)

    row = await database.pool.fetchrow(LEASE)

    assert row is not None
    assert abs(row["expires_at"] - row["renewed_at"] - ttl) < timedelta(milliseconds=1)


async def test_a_lease_that_its_holder_keeps_is_not_free(database: TestDatabase) -> None:
    async with database.pool.acquire() as leader:
        await acquire(leader, uuid4(), 0)

        assert not (await beat(database.pool, uuid4())).free
        assert await acquire(database.pool, uuid4(), 1) is None


async def test_a_holder_whose_session_is_gone_is_followed_at_once(database: TestDatabase) -> None:
    async with database.pool.acquire() as leader:
        await acquire(leader, uuid4(), 0)
        leader.terminate()

    await until(lambda: _free(database))

    assert await acquire(database.pool, uuid4(), 1) == 2


@pytest.mark.parametrize("moved", ["- interval '1 h'", "+ interval '1 h'"])
async def test_an_expiry_that_cannot_be_is_free(database: TestDatabase, moved: str) -> None:
    async with database.pool.acquire() as leader:
        await acquire(leader, uuid4(), 0)
        await database.pool.execute(f"UPDATE qj_lease SET expires_at = expires_at {moved}")

        assert (await beat(database.pool, uuid4())).free
        assert await acquire(database.pool, uuid4(), 1) == 2


async def test_a_late_beat_keeps_what_nobody_took(database: TestDatabase) -> None:
    uuid = uuid4()
    await acquire(database.pool, uuid, 0)
    await database.pool.execute("UPDATE qj_lease SET expires_at = now() - interval '1 s'")

    standing = await beat(database.pool, uuid, 1)

    assert standing.leading
    assert not (await beat(database.pool, uuid4())).free or standing.term == 1
    assert await database.pool.fetchval("SELECT expires_at > clock_timestamp() FROM qj_lease")


@pytest.mark.parametrize("differs", ["holder", "term", "both"])
async def test_a_zombies_beat_renews_nothing(database: TestDatabase, differs: str) -> None:
    zombie = uuid4()
    await acquire(database.pool, zombie, 0)
    await database.pool.execute(
        "UPDATE qj_lease SET holder = $1, term = $2, expires_at = now() + interval '1 s'",
        zombie if differs == "term" else uuid4(),
        1 if differs == "holder" else 2,
    )
    before = await database.pool.fetchrow(LEASE)

    standing = await beat(database.pool, zombie, 1)

    assert not standing.leading
    assert await database.pool.fetchrow(LEASE) == before


async def test_a_beat_while_another_takes_the_lease_renews_nothing(database: TestDatabase) -> None:
    """Nor waits: it would renew the lease of the other then, and for its own session."""
    late = uuid4()
    await acquire(database.pool, late, 0)
    await database.pool.execute("UPDATE qj_lease SET expires_at = '-infinity'")
    async with database.pool.acquire() as other, other.transaction():
        await acquire(other, uuid4(), 1)
        taken = await other.fetchrow(LEASE)
        async with asyncio.timeout(5):
            await beat(database.pool, late, 1)

    assert await database.pool.fetchrow(LEASE) == taken


async def test_a_beat_renews_the_lease_while_its_own_enqueue_runs(database: TestDatabase) -> None:
    uuid = uuid4()
    await acquire(database.pool, uuid, 0)
    async with database.pool.acquire() as enqueuing, enqueuing.transaction():
        await enqueuing.execute("SELECT FROM qj_lease FOR KEY SHARE")
        async with asyncio.timeout(5):
            first = await beat(database.pool, uuid, 1)
            second = await beat(database.pool, uuid, 1)

    assert first.leading
    assert second.remaining > first.remaining


@pytest.mark.parametrize(("own", "term"), [(True, 1), (False, 1), (True, 0)])
async def test_only_the_holder_of_this_term_gives_it_back(
    database: TestDatabase, own: bool, term: int
) -> None:
    uuid = uuid4()
    await acquire(database.pool, uuid, 0)

    await lease.resign(database.pool, uuid=uuid if own else uuid4(), term=term)

    row = await database.pool.fetchrow(LEASE)
    assert row is not None
    assert (row["holder"] is None, row["term"]) == (own and term == 1, 1)


async def test_of_two_with_one_name_and_pid_one_leads(database: TestDatabase) -> None:
    await add_schedule(database.pool, "s")
    async with replica(database.address, "same") as one, replica(database.address, "same") as other:
        await until(lambda: database.pool.fetchval("SELECT count(*) = 2 FROM qj_peers"))

        await until(lambda: database.pool.fetchval("SELECT count(*) > 4 FROM qj_ticks"))

        assert None in [each.election.term for each in (one, other)]
    decided = await database.pool.fetch("SELECT DISTINCT term FROM qj_ticks")
    assert len(decided) <= 2
    assert await database.pool.fetchval(
        "SELECT count(*) = count(DISTINCT meta ->> 'tick_at') FROM oban_jobs"
    )


async def test_a_replica_that_stops_is_followed_by_the_next_term(database: TestDatabase) -> None:
    async with replica(database.address, "b") as follower:
        await until(lambda: database.pool.fetchval(LEADER))
        async with replica(database.address, "c"):
            await until(lambda: database.pool.fetchval("SELECT count(*) = 2 FROM qj_peers"))
            first = follower.election.term
        await until(lambda: database.pool.fetchval("SELECT count(*) = 1 FROM qj_peers"))

        assert follower.election.term == first == 1
    assert await database.pool.fetchval("SELECT resigned_at IS NOT NULL FROM qj_terms")
    async with replica(database.address, "d") as next_one:
        await until(lambda: _term(next_one.election.term))

        assert next_one.election.term == 2


async def test_a_cut_session_costs_at_most_one_term(database: TestDatabase) -> None:
    async with replica(database.address, "a"), replica(database.address, "b"):
        await until(lambda: database.pool.fetchval("SELECT count(*) = 2 FROM qj_peers"))
        await until(lambda: database.pool.fetchval(LEADER))
        await database.pool.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%scheduler%'"
        )

        await until(lambda: database.pool.fetchval(LEADER))
        await until(
            lambda: database.pool.fetchval(
                "SELECT bool_and(heartbeat_at > clock_timestamp() - interval '1 s') FROM qj_peers"
            )
        )

    assert await database.pool.fetchval("SELECT term <= 2 FROM qj_lease")


@pytest.mark.parametrize("removal", ["DELETE FROM qj_lease", "TRUNCATE qj_lease, qj_terms"])
async def test_a_lease_that_was_removed_is_made_anew(database: TestDatabase, removal: str) -> None:
    async with replica(database.address, "same"), replica(database.address, "same"):
        await until(lambda: database.pool.fetchval(LEADER))
        before = await database.row(LEASE)

        await database.pool.execute(removal)

        await until(lambda: database.pool.fetchval(LEADER))
        after = await database.row(LEASE)
    assert after["term"] == (before["term"] if "TRUNCATE" in removal else before["term"] + 1)


async def _free(database: TestDatabase) -> bool:
    return (await beat(database.pool, uuid4())).free


async def _term(term: int | None) -> bool:
    return term is not None
