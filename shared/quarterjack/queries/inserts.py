"""Insert jobs, one, some or many, and unique ones."""

import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

from quarterjack.database import Connection, Database
from quarterjack.model import Enqueued, Row

COPIED = (
    "id", "state", "worker", "queue", "args", "meta", "tags", "priority", "max_attempts", "inserted_at", "scheduled_at",
)  # fmt: skip
BLOCK = 500
ESCAPED = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
QUOTED = ESCAPED | str.maketrans({"\\": "\\" * 4, '"': '\\\\"'})


async def insert(db: Database, rows: Sequence[Row], *, rings_itself: bool) -> list[int]:
    """Insert all rows in one statement; ids in their order."""
    ids = await db.fetchval(
        "SELECT qj_insert_many($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        "yes" if rings_itself else "no",
        *_columns(rows),
    )
    return list(ids)


async def insert_one(db: Database, row: Row, *, rings_itself: bool) -> int:
    """Insert one row, for two thirds of what `insert` costs; its id. The trigger that rings runs after RETURNING."""
    record = await db.fetchrow(
        """
        INSERT INTO oban_jobs
          (state, worker, queue, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at)
        VALUES (
          $2::text::oban_job_state, $3, $4, $5::text::jsonb, $6::text::jsonb, $7::text[], $8, $9,
          timezone('UTC', clock_timestamp()),
          timezone('UTC', coalesce($10::timestamptz, clock_timestamp()))
        )
        RETURNING id, set_config('quarterjack.rings_itself', $1, true)
        """,
        "yes" if rings_itself else "no",
        row["state"],
        row["worker"],
        row["queue"],
        row["args"],
        row["meta"],
        row["tags"],
        row["priority"],
        row["max_attempts"],
        row["scheduled_at"],
    )
    assert record is not None
    return int(record["id"])


async def insert_and_ring(connection: Connection, row: Row) -> int:
    """Insert one available row, commit, and wake its queue by another transaction, in one round trip; its id.

    `connection` is in no transaction. While the queue of notifications is full, workers look by themselves.
    """
    id = await connection.fetchval(
        "CALL qj_enqueue(NULL, $1, $2, $3, $4, $5, $6, $7)",
        row["worker"],
        row["queue"],
        row["args"],
        row["meta"],
        row["tags"],
        row["priority"],
        row["max_attempts"],
    )
    return int(id)


async def insert_many_and_ring(connection: Connection, rows: Sequence[Row]) -> list[int]:
    """Insert some rows as `insert_and_ring` does one; ids in their order."""
    ids = await connection.fetchval(
        "CALL qj_enqueue_many(NULL, $1, $2, $3, $4, $5, $6, $7, $8, $9)", *_columns(rows)
    )
    return list(ids)


def _columns(rows: Sequence[Row]) -> list[list[Any]]:
    """Give an array for each column, the tags of a row as JSON."""
    return [
        [row["state"] for row in rows],
        [row["worker"] for row in rows],
        [row["queue"] for row in rows],
        [row["args"] for row in rows],
        [row["meta"] for row in rows],
        [json.dumps(row["tags"]) if row["tags"] else None for row in rows],
        [row["priority"] for row in rows],
        [row["max_attempts"] for row in rows],
        [row["scheduled_at"] for row in rows],
    ]


async def copy(connection: Connection, rows: Sequence[Row], *, rings_itself: bool) -> list[int]:
    """Insert many rows by COPY, in half the time of `insert`; ids in their order.

    In the caller's transaction, which may be one that asyncpg did not begin. Where the ids are of no sequence that this
    role may use, as an identity column's need not be, or rows have policies, they are inserted.
    """
    if not connection.is_in_transaction():
        async with connection.transaction():
            return await copy(connection, rows, rings_itself=rings_itself)
    made = await connection.fetchrow(
        """
        WITH sequence AS MATERIALIZED (
          SELECT name
          FROM CAST(pg_get_serial_sequence('oban_jobs', 'id') AS regclass) AS name
          WHERE has_sequence_privilege(name, 'USAGE, UPDATE') AND NOT row_security_active('oban_jobs')
        )
        SELECT
          set_config('quarterjack.rings_itself', $1, true),
          timezone('UTC', clock_timestamp())::text AS now,
          ARRAY(SELECT nextval(name) FROM sequence, generate_series(1, $2)) AS ids
        """,
        "yes" if rings_itself else "no",
        len(rows),
    )
    assert made is not None
    if not made["ids"]:
        return await insert(connection, rows, rings_itself=rings_itself)
    lines = _lines(rows, made["ids"], made["now"])
    await connection.copy_to_table("oban_jobs", source=lines, columns=COPIED)
    return list(made["ids"])


async def _lines(rows: Sequence[Row], ids: Sequence[int], now: str) -> AsyncIterator[bytes]:
    """Give what COPY reads, a block at a time: the server inserts one while the next is made."""
    names: dict[str, str] = {}
    for start in range(0, len(rows), BLOCK):
        lines = []
        for id, row in zip(ids[start : start + BLOCK], rows[start : start + BLOCK], strict=True):
            worker, queue, args, meta, tags, at = (
                row["worker"], row["queue"], row["args"], row["meta"], row["tags"], row["scheduled_at"],
            )  # fmt: skip
            if worker not in names or queue not in names:
                names |= {name: name.translate(ESCAPED) for name in (worker, queue)}
            lines.append(
                f"{id}\t{row['state']}\t{names[worker]}\t{names[queue]}\t{_escape(args)}\t{_escape(meta)}\t"
                f"{_array(tags) if tags else '{}'}\t{row['priority']}\t{row['max_attempts']}\t"
                f"{now}\t{at.replace(tzinfo=None) if at else now}\n"
            )
        yield "".join(lines).encode()


def _escape(text: str) -> str:
    """Escape JSON, which holds no other characters that mean something to COPY."""
    return text.replace("\\", "\\\\") if "\\" in text else text


def _array(texts: Sequence[str]) -> str:
    """Write an array, and escape that for COPY."""
    return "{" + ",".join(f'"{text.translate(QUOTED)}"' for text in texts) + "}"


async def insert_unique(db: Database, rows: Sequence[Row], *, rings_itself: bool) -> list[Enqueued]:
    """Insert each row unless its key is taken; the unique index decides between concurrent callers.

    Rows are locked by id and keys taken in their order, so that two batches never wait for each other. If their periods
    differ, they may: one releases a key that the other finds taken, and waits for one that the other has inserted.
    """
    wanted = [
        row
        | {
            "place": place,
            "args": json.loads(row["args"]),
            "meta": json.loads(row["meta"]),
            "scheduled_at": row["scheduled_at"] and row["scheduled_at"].isoformat(),
        }
        for place, row in enumerate(rows)
    ]
    records = await db.fetch(
        """
        WITH quiet AS MATERIALIZED (
          SELECT set_config('quarterjack.rings_itself', $1, true)
        ),
        wanted AS MATERIALIZED (
          SELECT *
          FROM jsonb_to_recordset($2::text::jsonb) AS w (
            place integer, state text, worker text, queue text, args jsonb, meta jsonb, tags text[],
            priority integer, max_attempts integer, scheduled_at timestamptz,
            key text, states text[], period interval
          )
        ),
        expired AS MATERIALIZED (
          SELECT j.id
          FROM oban_jobs AS j
          JOIN wanted AS w ON j.meta ->> 'qj_unique' = w.key
          WHERE
            j.meta ? 'qj_unique'
            AND (
              NOT j.state::text = ANY (w.states)
              OR j.inserted_at < timezone('UTC', clock_timestamp()) - w.period
            )
          ORDER BY j.id
          FOR UPDATE OF j
        ),
        released AS (
          UPDATE oban_jobs AS j
          SET meta = j.meta - 'qj_unique'
          FROM expired AS e
          WHERE j.id = e.id
          RETURNING j.id
        ),
        inserted AS (
          INSERT INTO oban_jobs
            (state, worker, queue, args, meta, tags, priority, max_attempts, inserted_at, scheduled_at)
          SELECT
            state::oban_job_state, worker, queue, args, meta, tags, priority, max_attempts,
            timezone('UTC', clock_timestamp()),
            timezone('UTC', coalesce(scheduled_at, clock_timestamp()))
          FROM wanted, quiet
          WHERE (SELECT count(*) FROM released) >= 0
          ORDER BY key, place
          ON CONFLICT ((meta ->> 'qj_unique')) WHERE meta ? 'qj_unique' DO NOTHING
          RETURNING id, meta ->> 'qj_unique' AS key
        )
        SELECT w.key, i.id
        FROM wanted AS w
        LEFT JOIN inserted AS i USING (key)
        ORDER BY w.place
        """,
        "yes" if rings_itself else "no",
        json.dumps(wanted),
    )
    taken = [record["key"] for record in records if record["id"] is None]
    holders = await holders_of(db, taken) if taken else {}
    seen: set[str] = set()
    results = []
    for record in records:
        key, id = record["key"], record["id"]
        results.append(
            Enqueued(id=holders.get(key), conflict=True)
            if id is None
            else Enqueued(id=id, conflict=key in seen)
        )
        seen.add(key)
    return results


async def holders_of(db: Database, keys: Sequence[str]) -> dict[str, int]:
    """Give the job that holds each unique key."""
    records = await db.fetch(
        """
        SELECT meta ->> 'qj_unique' AS key, id
        FROM oban_jobs
        WHERE meta ? 'qj_unique' AND meta ->> 'qj_unique' = ANY ($1::text[])
        """,
        list(keys),
    )
    return {record["key"]: record["id"] for record in records}
