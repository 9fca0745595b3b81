"""Refresh `otel_trace_summaries` every two minutes, without blocking its readers.

| what stands under the name                   | outcome                                                     |
|----------------------------------------------|-------------------------------------------------------------|
| a populated materialized view                | refreshed concurrently, completed                           |
| one that was never filled                    | filled first (nobody could read it), completed              |
| one without a unique index over whole rows   | fails, naming the statement that adds it; retried           |
| nothing                                      | discarded: install it with quarterjack-migrate              |
| a table, or anything else                    | discarded: it is maintained in another way                  |
| a view that another session holds            | snoozed for 15 s: the other refresh does the work           |
| a view of which this role is not the owner   | fails, naming the right that is missing; retried            |
| a refresh that runs into statement_timeout   | fails, saying so; retried                                   |

A refresh that takes longer than half the time between its ticks warns in the log and on the schedule's page.
"""

import time
from datetime import UTC, datetime, timedelta

import asyncpg

from quarterjack import Unique, cron
from quarterjack.database import Connection
from quarterjack.errors import QuarterjackError
from quarterjack.model import Job
from quarterjack.queries import refresh
from quarterjack.queries.refresh import View
from quarterjack_worker import Context, DefaultSchedule, Discard, Snooze, job

LOCK_PATIENCE = "5s"
STATEMENT_PATIENCE = timedelta(minutes=10)
TRY_AGAIN_IN = timedelta(seconds=15)
MATERIALIZED = "m"
KINDS = {"r": "a table", "p": "a partitioned table", "v": "a plain view", "f": "a foreign table"}


class RefreshFailed(QuarterjackError):
    """The view cannot be refreshed as it is; the message says what to do."""


@job(
    "ServiceRadarWebNG.Jobs.RefreshTraceSummariesWorker",
    queue="maintenance",
    max_attempts=3,
    timeout=STATEMENT_PATIENCE + timedelta(minutes=1),
    unique=Unique(period=None, states="incomplete"),
    schedule=DefaultSchedule(name="refresh_trace_summaries", cron="*/2 * * * *"),
)
async def refresh_trace_summaries(args: dict[str, object], context: Context) -> object:
    """Refresh the trace summaries."""
    async with context.pool.acquire() as connection:
        view = await refresh.find_view(connection)
        if view is None:
            return Discard(
                "there is no otel_trace_summaries: run quarterjack-migrate --with telemetry"
            )
        if view.kind != MATERIALIZED:
            kind = KINDS.get(view.kind, "no materialized view")
            return Discard(f"otel_trace_summaries is {kind}, so there is nothing to refresh")
        if view.populated and not view.unique:
            raise RefreshFailed(
                "otel_trace_summaries has no unique index, which a concurrent refresh needs: "
                "CREATE UNIQUE INDEX ON otel_trace_summaries (trace_id)"
            )
        began = time.monotonic()
        if not await _refresh(connection, view):
            return Snooze(TRY_AGAIN_IN)
        _compare_with_cadence(context, timedelta(seconds=time.monotonic() - began))
    return None


async def _refresh(connection: Connection, view: View) -> bool:
    """Refresh; False if another session holds the view."""
    try:
        async with connection.transaction():
            seconds = STATEMENT_PATIENCE.total_seconds()
            await refresh.set_patience(connection, lock=LOCK_PATIENCE, statement=f"{seconds:.0f}s")
            if view.populated:
                await refresh.refresh(connection)
            else:
                await refresh.populate(connection)
    except asyncpg.LockNotAvailableError:
        return False
    except asyncpg.InsufficientPrivilegeError as error:
        raise RefreshFailed(
            f"{error}: the worker's role must own otel_trace_summaries or hold MAINTAIN on it"
        ) from error
    except asyncpg.QueryCanceledError as error:
        raise RefreshFailed(
            f"the refresh took longer than {STATEMENT_PATIENCE} and was stopped"
        ) from error
    return True


def _compare_with_cadence(context: Context, took: timedelta) -> None:
    cadence = _cadence(context.job)
    if cadence is not None and took > cadence / 2:
        context.warn(
            f"the refresh took {took.total_seconds():.1f} s, more than half of the "
            f"{cadence.total_seconds():.0f} s between its ticks: schedule it less often or slim the view"
        )


def _cadence(job: Job) -> timedelta | None:
    """Give the time between two ticks of the schedule that made the job; None if none did."""
    expression, zone_name = job.meta.get("cron_expr"), job.meta.get("cron_tz")
    if not isinstance(expression, str) or not isinstance(zone_name, str):
        return None
    try:
        seed = str(job.meta.get("cron_name"))
        parsed, zone = cron.read(expression, seed), cron.zone(zone_name)
    except cron.CronError:
        return None
    first = parsed.next_after(datetime.now(UTC), zone)
    second = first and parsed.next_after(first, zone)
    return second - first if first and second else None
