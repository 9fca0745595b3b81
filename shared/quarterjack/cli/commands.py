"""Schedules as files.

quarterjack schedules apply FILE.yaml    make the database say what the file says
quarterjack schedules export             write what the database says as such a file
quarterjack schedules import             write the schedules of another program as such a file
"""

import argparse
import asyncio
import getpass
import os
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

import asyncpg

from quarterjack import cron, migrate
from quarterjack.cli import applying, plan, showing, wanted, writing
from quarterjack.cli.files import read_text, shown
from quarterjack.cli.importers import NEED_WORKER, READERS, Options
from quarterjack.cli.problems import FileInvalid
from quarterjack.database import UNREACHABLE, Connection, connect, from_environment
from quarterjack.definition import LONGEST_REASON
from quarterjack.errors import QuarterjackError
from quarterjack.process import MENDABLE, in_words
from quarterjack.queries import declared, managed

DONE, FAILED, LOOK = 0, 1, 2
CODES = "exit codes: 0 done, 1 nothing was written because of an error, 2 {two}"


class _Parser(argparse.ArgumentParser):
    """Keeps the exit code 2 for a plan with changes."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(FAILED, f"{self.prog}: {message}\n")


def run(arguments: Sequence[str]) -> int:
    """Run a command; its exit code. Whatever can go wrong is said in words on standard error."""
    options = _parser().parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except FileInvalid as error:
        return _fail(f"{error}\nnothing was written: {_count(len(error.problems))} to put right")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _fail("quarterjack: interrupted; a transaction that had not ended is undone", 130)
    except MENDABLE as error:
        return _fail(f"quarterjack: {in_words(error)}")
    except asyncpg.PostgresError as error:
        return _fail(f"quarterjack: {error}")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="quarterjack", description="Schedules as files.")
    groups = parser.add_subparsers(dest="group", required=True, metavar="schedules")
    schedules = groups.add_parser("schedules", help="apply, import and export schedules")
    verbs = schedules.add_subparsers(dest="verb", required=True, parser_class=_Parser)
    _add_apply(verbs)
    _add_import(verbs)
    exporting = verbs.add_parser("export", help="write schedules as YAML to standard output")
    exporting.add_argument(
        "--name", action="append", default=[], help="only this one; can be repeated"
    )
    exporting.set_defaults(run=lambda options: asyncio.run(_export(options.name)))
    return parser


def _add_apply(verbs: "argparse._SubParsersAction[_Parser]") -> None:
    two = "with --dry-run: something would change"
    parser = verbs.add_parser(
        "apply", help="make the database say what FILE says", epilog=CODES.format(two=two)
    )
    parser.add_argument("file", metavar="FILE", help="the YAML; - reads standard input")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, write nothing")
    parser.add_argument(
        "--prune", action="store_true", help="remove what this file managed and no longer names"
    )
    parser.add_argument(
        "--adopt", action="store_true", help="take over schedules that something else manages"
    )
    parser.add_argument("--reason", default="", help="why, kept with each change")
    parser.set_defaults(run=lambda options: asyncio.run(_apply(options)))


def _add_import(verbs: "argparse._SubParsersAction[_Parser]") -> None:
    parser = verbs.add_parser(
        "import",
        help="write the schedules of another program as YAML to standard output",
        epilog=CODES.format(two="some entries were left out; standard error says which"),
    )
    parser.add_argument("--from", dest="source", required=True, choices=sorted(READERS))
    parser.add_argument("file", metavar="FILE", help="what to read; - reads standard input")
    parser.add_argument("--worker", default="", help="the job that runs a command or a container")
    parser.add_argument("--timezone", help="the zone of times that name none (default: Etc/UTC)")
    parser.add_argument("--system", action="store_true", help="a crontab with a column for users")
    parser.set_defaults(run=_import)


async def _apply(options: argparse.Namespace) -> int:
    file = wanted.read(options.file)
    try:
        async with _session() as connection:
            choices = {"prune": options.prune, "adopt": options.adopt}
            if options.dry_run:
                steps = await applying.plan(connection, file, **choices)
            else:
                reason = options.reason.strip()[:LONGEST_REASON]
                steps = await applying.apply(
                    connection, file, **choices, reason=reason, address=_caller()
                )
    except (QuarterjackError, *UNREACHABLE) as error:
        if not file.problems or isinstance(error, FileInvalid):
            raise
        raise FileInvalid(file.name, file.problems) from error
    print(showing.show(steps, written=not options.dry_run))
    changes = any(step.writes for step in steps)
    return LOOK if options.dry_run and changes else DONE


async def _export(names: list[str]) -> int:
    async with _session() as connection:
        found = await declared.every(connection, names)
        types = await declared.job_types(connection, sorted({each.worker for each in found}))
        said = await managed.of(connection, [each.id for each in found])
    if missing := sorted(set(names) - {each.name for each in found}):
        return _fail(f"quarterjack: there is no schedule {', '.join(missing)}")
    fields = {each.name: plan.exported(each, types.get(each.worker)) for each in found}
    sources = {each.source for each in said.values() if each.kind == "file"}
    source = sources.pop() if len(sources) == 1 and not names else None
    by = {each.name: plan.MANAGERS.get(each.managed_by) for each in found}
    notes = {name: [f"managed by {who}: --adopt takes it over"] for name, who in by.items() if who}
    sys.stdout.write(writing.write_schedules(fields, notes=notes, source=source))
    return DONE


def _import(options: argparse.Namespace) -> int:
    if options.source in NEED_WORKER and not 0 < len(options.worker) < 128:
        return _fail(
            f"quarterjack: --from {options.source} needs --worker, the job that runs a command"
        )
    try:
        cron.zone(options.timezone or "Etc/UTC")
    except cron.CronError as error:
        return _fail(f"quarterjack: --timezone: {error}")
    text = read_text(options.file)
    choices = Options(worker=options.worker, timezone=options.timezone, system=options.system)
    found = READERS[options.source](options.file, text, choices)
    head = [f"Imported from {options.source}, {shown(options.file)}.", *found.head]
    left = [f"left out: {each}" for each in found.left_out]
    sys.stdout.write(
        writing.write_schedules(found.schedules, head=[*head, *left], notes=found.notes)
    )
    noted = [f"{name}: {note}" for name, notes in found.notes.items() for note in notes]
    for line in [*found.head, *noted, *left]:
        print(line, file=sys.stderr)
    return LOOK if found.left_out else DONE


@asynccontextmanager
async def _session() -> AsyncIterator[Connection]:
    connection = await connect(from_environment(), name="quarterjack-cli")
    try:
        await migrate.check(connection)
        yield connection
    finally:
        await connection.close()


def _caller() -> str:
    """Give the user of this machine, for the audit."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _count(number: int) -> str:
    return "1 problem" if number == 1 else f"{number} problems"


def _fail(message: str, code: int = FAILED) -> int:
    print(message.encode(errors="backslashreplace").decode(), file=sys.stderr)
    return code
