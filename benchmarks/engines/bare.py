"""No framework: two connections, one claims the next batch while the other acks the last."""

import asyncio
import json
import time

import asyncpg
import common

CLAIM = """
WITH pick AS MATERIALIZED (
  SELECT id FROM oban_jobs
  WHERE state = 'available' AND queue = 'default' AND attempt < max_attempts
  ORDER BY priority, scheduled_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE oban_jobs AS j
SET state = 'executing', attempt = j.attempt + 1, attempted_at = timezone('UTC', clock_timestamp()),
  attempted_by = ARRAY['bare', 'loop']
WHERE j.id = ANY (ARRAY(SELECT id FROM pick)) RETURNING j.id, j.worker, j.args
"""
ACK = """
UPDATE oban_jobs SET state = 'completed', completed_at = timezone('UTC', clock_timestamp())
WHERE id = ANY ($1::bigint[]) AND state::text = 'executing'
"""
INSERT = "INSERT INTO oban_jobs (worker, args) VALUES ('noop', $1::text::jsonb)"


async def work(url: str, batch: int) -> None:
    claimer, acker = await asyncpg.connect(url), await asyncpg.connect(url)
    acking = asyncio.create_task(asyncio.sleep(0))

    async def noop(args: str) -> None:
        common.ran(json.loads(args).get("at"))

    async def loop() -> None:
        nonlocal acking
        rung = asyncio.Event()
        listener = await asyncpg.connect(url)
        await listener.add_listener("public.oban_insert", lambda *_: rung.set())
        while True:
            rung.clear()
            rows = await claimer.fetch(CLAIM, batch)
            if rows:
                await asyncio.gather(*(asyncio.create_task(noop(row["args"])) for row in rows))
                await acking
                acking = asyncio.create_task(acker.execute(ACK, [row["id"] for row in rows]))
            else:
                await rung.wait()

    looping = asyncio.create_task(loop())
    await common.stopped()
    looping.cancel()


async def bulk(url: str, many: int) -> float:
    db = await asyncpg.connect(url)
    began = time.monotonic()
    rows = [("noop", "default", "{}")] * many
    for start in range(0, many, 10_000):
        chunk = rows[start : start + 10_000]
        await db.copy_records_to_table(
            "oban_jobs", records=chunk, columns=["worker", "queue", "args"]
        )
    return time.monotonic() - began


async def trickle(url: str, many: int) -> None:
    """Insert and, by the trigger, NOTIFY in one statement."""
    db = await asyncpg.connect(url)
    await common.trickle(lambda at: db.execute(INSERT, json.dumps({"at": at})), many)


common.run(work=work, bulk=bulk, trickle=trickle)
