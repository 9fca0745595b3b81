"""Acks: one fenced statement for a batch of outcomes.

Fence: the job must still be executing, by the claim with this nonce. So a worker that was taken for dead can never
overwrite, and repeating an ack changes nothing.
Two things make the planner look rows up by their ids. The state is compared as text: by the statistics nothing is ever
executing, and an index on the state looks free, but it is full of what has just ended. And the arrays are subqueries,
so that their lengths are not seen: for a batch of hundreds it would read a table of some ten thousand rows whole.

With `patience` the transaction waits for so many seconds, and no longer, for each row that somebody holds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from quarterjack.database import Database
from quarterjack.queries.claims import Claim


@dataclass(slots=True, kw_only=True)
class Ack:
    """The outcome of one execution: the `state` it ends in.

    `error` is appended to errors; `delay` in seconds says when a retryable or scheduled job is due;
    `snoozed` gives the attempt back; `meta` is merged.
    """

    claim: Claim
    state: str
    error: str | None = None
    delay: float | None = None
    snoozed: bool = False
    meta: dict[str, Any] = field(default_factory=dict)

    @property
    def plain(self) -> bool:
        """True for a completion that leaves nothing but its instant, as `complete` writes."""
        return self.state == "completed" and not self.meta


async def complete(
    db: Database, claims: Sequence[Claim], *, patience: float | None = None
) -> set[int]:
    """Write plain completions, which are most acks, for half of what `ack` costs; the ids that were still held."""
    records = await db.fetch(
        """
        UPDATE oban_jobs AS j
        SET
          state = 'completed', completed_at = timezone('UTC', clock_timestamp()), cancelled_at = NULL,
          discarded_at = NULL
        FROM
          unnest((SELECT $1::bigint[]), (SELECT $2::text[])) AS c (id, nonce)
        WHERE
          j.id = c.id
          AND j.state::text = 'executing'
          AND j.attempted_by[3] = c.nonce
          AND (SELECT set_config('lock_timeout', coalesce($3, current_setting('lock_timeout')), true)) IS NOT NULL
        RETURNING j.id
        """,
        [claim.id for claim in claims],
        [claim.nonce for claim in claims],
        _milliseconds(patience),
    )
    return {id for (id,) in records}


async def ack(db: Database, acks: Sequence[Ack], *, patience: float | None = None) -> set[int]:
    """Write outcomes; the ids that were still held."""
    records = await db.fetch(
        """
        UPDATE oban_jobs AS j
        SET
          state = a.state::oban_job_state,
          attempt = j.attempt - a.snoozed::integer,
          completed_at = CASE WHEN a.state = 'completed' THEN timezone('UTC', clock_timestamp()) END,
          cancelled_at = CASE WHEN a.state = 'cancelled' THEN timezone('UTC', clock_timestamp()) END,
          discarded_at = CASE WHEN a.state = 'discarded' THEN timezone('UTC', clock_timestamp()) END,
          scheduled_at = CASE
            WHEN a.delay IS NULL THEN j.scheduled_at
            ELSE timezone('UTC', clock_timestamp() + make_interval(secs => a.delay))
          END,
          errors = CASE
            WHEN a.error IS NULL THEN j.errors
            ELSE qj_with_error(j.errors, jsonb_build_object(
              'attempt', j.attempt,
              'at', to_char(timezone('UTC', clock_timestamp()), 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
              'error', a.error
            ))
          END,
          meta = CASE
            WHEN a.snoozed THEN coalesce(j.meta, '{}') || a.meta::jsonb || jsonb_build_object(
              'snoozed', CASE
                WHEN jsonb_typeof(j.meta -> 'snoozed') = 'number'
                THEN least((j.meta ->> 'snoozed')::numeric, 1e9)::bigint + 1
                ELSE 1
              END
            )
            WHEN a.meta = '{}' THEN j.meta
            ELSE coalesce(j.meta, '{}') || a.meta::jsonb
          END
        FROM
          unnest(
            (SELECT $1::bigint[]), (SELECT $2::text[]), (SELECT $3::text[]), (SELECT $4::text[]),
            (SELECT $5::float8[]), (SELECT $6::boolean[]), (SELECT $7::text[])
          ) AS a (id, nonce, state, error, delay, snoozed, meta)
        WHERE
          j.id = a.id
          AND j.state::text = 'executing'
          AND j.attempted_by[3] = a.nonce
          AND (SELECT set_config('lock_timeout', coalesce($8, current_setting('lock_timeout')), true)) IS NOT NULL
        RETURNING j.id
        """,
        [each.claim.id for each in acks],
        [each.claim.nonce for each in acks],
        [each.state for each in acks],
        [each.error for each in acks],
        [each.delay for each in acks],
        [each.snoozed for each in acks],
        [json.dumps(each.meta) for each in acks],
        _milliseconds(patience),
    )
    return {record["id"] for record in records}


async def landed(db: Database, acks: Sequence[Ack]) -> set[int]:
    """Of acks that found nothing to change: the ids where an earlier try of the same ack had landed."""
    records = await db.fetch(
        """
        SELECT j.id
        FROM oban_jobs AS j
        JOIN
          unnest((SELECT $1::bigint[]), (SELECT $2::text[]), (SELECT $3::text[])) AS a (id, nonce, state)
          ON a.id = j.id
        WHERE j.attempted_by[3] = a.nonce AND j.state::text = a.state
        """,
        [each.claim.id for each in acks],
        [each.claim.nonce for each in acks],
        [each.state for each in acks],
    )
    return {record["id"] for record in records}


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1000:.0f}"
