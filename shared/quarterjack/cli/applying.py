"""Make the database say what a file says, in one transaction."""

from collections.abc import Sequence

from quarterjack import drift
from quarterjack.cli.plan import Found, Step, make_plan, problems
from quarterjack.cli.problems import FileInvalid
from quarterjack.cli.wanted import File
from quarterjack.database import Connection
from quarterjack.errors import QuarterjackError
from quarterjack.model import Schedule
from quarterjack.queries import access, calendars, declared, managed, schedules
from quarterjack.queries.managed import Managed

VERSIONS = 200


class Raced(QuarterjackError):
    """Somebody else made a schedule of this name meanwhile; nothing was written."""


async def plan(
    connection: Connection, file: File, *, prune: bool, adopt: bool, hold: bool = False
) -> list[Step]:
    """Work out what to do; FileInvalid lists all that is wrong. With `hold` the schedules stay as they are."""
    found = await _look(connection, file, hold=hold)
    wrong = [*file.problems, *problems(file, found, adopt=adopt)]
    if wrong:
        raise FileInvalid(file.name, wrong)
    return make_plan(file, found, prune=prune)


async def apply(
    connection: Connection, file: File, *, prune: bool, adopt: bool, reason: str, address: str
) -> list[Step]:
    """Do it, all or nothing; what was done."""
    author = f"file:{file.source}"
    async with connection.transaction():
        steps = await plan(connection, file, prune=prune, adopt=adopt, hold=True)
        await schedules.give_reason(connection, reason)
        for step in steps:
            after = await _write(connection, step, author)
            if step.wanted is not None and after is not None:
                await managed.record(connection, after.id, file.source, step.written)
            if step.writes:
                await _record(connection, step, after, author, reason, address)
    return steps


async def _write(connection: Connection, step: Step, author: str) -> Schedule | None:
    present, wanted = step.present, step.wanted
    if wanted is None:
        if step.kind == "remove" and present is not None:
            await schedules.remove(connection, present.id)
        return None
    if present is None:
        made = await declared.make(
            connection, step.name, wanted.worker, step.row, paused=step.pause, by=author
        )
        if made is None:
            raise Raced(f"{step.name} was made by somebody else meanwhile: run it again")
        return made
    if step.kind == "keep" or (step.kind == "adopt" and present.managed_by == "file"):
        return present  # an update would make a version in which nothing differs
    return await declared.replace(
        connection, present.id, wanted.worker, step.row, paused=step.pause, by=author
    )


async def _record(
    connection: Connection,
    step: Step,
    after: Schedule | None,
    author: str,
    reason: str,
    address: str,
) -> None:
    await access.record(
        connection,
        actor=author,
        action="delete schedule" if step.kind == "remove" else "apply schedule",
        address=address,
        target=step.name,
        before=_without_args(step.present),
        after=_without_args(after),
        reason=reason or None,
    )


def _without_args(schedule: Schedule | None) -> dict[str, object] | None:
    """Give what the audit keeps; args, which may hold secrets, are in the versions."""
    if schedule is None:
        return None
    return {name: value for name, value in drift.written(schedule).items() if name != "args"}


async def _look(connection: Connection, file: File, *, hold: bool) -> Found:
    names = [wanted.name for wanted in file.wanted]
    look = declared.hold if hold else declared.read
    present = await look(connection, names, file.source)
    said = await managed.of(connection, [schedule.id for schedule in present])
    workers = sorted({wanted.worker for wanted in file.wanted})
    return Found(
        present={schedule.name: schedule for schedule in present},
        managed=said,
        drifts={s.id: await _drifts(connection, s, said[s.id]) for s in present if s.id in said},
        job_types=await declared.job_types(connection, workers),
        calendars=frozenset(await calendars.names(connection)),
    )


async def _drifts(
    connection: Connection, schedule: Schedule, said: Managed
) -> Sequence[drift.Drift]:
    if not drift.find(schedule, said, []):
        return []
    versions = await schedules.versions(connection, schedule.id, limit=VERSIONS)
    return drift.find(schedule, said, versions)
