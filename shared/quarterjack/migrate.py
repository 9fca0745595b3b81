"""Apply the numbered migrations, forward only; runners take turns.

One advisory lock makes a second runner wait and then find nothing to do. Each file is one transaction,
except those whose first line is `-- migrate: no transaction` (CREATE INDEX CONCURRENTLY), which are
written so that they can be run again. A file that was applied must never change: its digest is kept.
"""

import argparse
import asyncio
import hashlib
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from quarterjack.database import (
    Address,
    Database,
    check_schema,
    connect,
    from_environment,
)
from quarterjack.errors import SchemaOutdated, SchemaUnknown
from quarterjack.process import MENDABLE, in_words
from quarterjack.queries import connections, migrations, rights

log = logging.getLogger(__name__)

DIRECTORY = Path(__file__).parent / "migrations"
OPTIONAL = ("telemetry",)
LONGEST_WAIT = 10
NO_TRANSACTION = "-- migrate: no transaction"


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One file; `name` includes the folder of an optional set."""

    name: str
    script: str

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.script.encode()).hexdigest()


def shipped(optional: Sequence[str] = ()) -> list[Migration]:
    """Give the migrations of this release in their order, core first."""
    files = sorted(DIRECTORY.glob("*.sql"))
    if not files:
        raise SchemaUnknown(f"no migrations in {DIRECTORY}: the installation is incomplete")
    for name in optional:
        files += sorted((DIRECTORY / name).glob("*.sql"))
    return [
        Migration(
            name=file.relative_to(DIRECTORY).with_suffix("").as_posix(),
            script=file.read_text(encoding="utf-8"),
        )
        for file in files
    ]


async def apply(address: Address, *, optional: Sequence[str] = ()) -> list[str]:
    """Bring the schema up to this release; the names that were applied. Safe to run twice at once."""
    connection = await connect(address, name="quarterjack-migrate", timeout=30)
    try:
        await _take_turn(connection)
        await migrations.make_schema(connection, address.schema)
        check_schema(address, await connections.schema(connection))
        await migrations.prepare(connection)
        applied = await migrations.applied(connection)
        _refuse_foreign(applied)
        done = []
        for migration in shipped(optional):
            if migration.name in applied:
                continue
            await _run(connection, migration)
            done.append(migration.name)
            log.info("applied %s", migration.name)
        return done
    finally:
        await connection.close()


async def _take_turn(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """Ask again and again: a statement that waits for the lock would hold a snapshot, and
    CREATE INDEX CONCURRENTLY of the other runner would wait for that snapshot for ever."""
    while not await migrations.take_turn(connection):  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.2)


async def check_for_service(db: Database) -> None:
    """Refuse what `check` refuses, and log the rights that a service of this role would miss."""
    await check(db)
    if missing := await rights.missing(db):
        log.error(
            "the role %s lacks %s: what needs that will fail; the documentation's page Security has the grants",
            await rights.role(db),
            ", ".join(missing),
        )


async def check(db: Database) -> None:
    """Refuse a database that this release does not fit; SchemaOutdated or SchemaUnknown says why."""
    try:
        applied = await migrations.applied(db)
    except asyncpg.UndefinedTableError as error:
        raise SchemaOutdated(
            "the database has no Quarterjack tables that this role may see: run quarterjack-migrate, "
            "or grant it USAGE on the schema"
        ) from error
    _refuse_foreign(applied)
    if missing := [m.name for m in shipped() if m.name not in applied]:
        raise SchemaOutdated(f"the database lacks {', '.join(missing)}: run quarterjack-migrate")


def _refuse_foreign(applied: dict[str, str]) -> None:
    """Refuse what another line of releases applied; a newer release of this one keeps us able to run."""
    known = {migration.name: migration.digest for migration in shipped(OPTIONAL)}
    newest = {_set_of(name): name for name in sorted(known)}
    unknown = sorted(set(applied) - set(known))
    if foreign := [name for name in unknown if name < newest.get(_set_of(name), "")]:
        raise SchemaUnknown(
            f"the database has {', '.join(foreign)}, which this release does not know and which is older than "
            f"its newest, {newest['']}: it belongs to another line of releases; run one of those"
        )
    if unknown:
        log.warning(
            "the database was migrated by a newer release (%s); this one runs on it until it is replaced",
            ", ".join(unknown),
        )
    if edited := sorted(name for name in known if applied.get(name, known[name]) != known[name]):
        raise SchemaUnknown(
            f"{', '.join(edited)} changed after it was applied: restore the file as it was released "
            "and put the change into a new migration"
        )


def _set_of(name: str) -> str:
    return name.rpartition("/")[0]


async def _run(connection: "asyncpg.Connection[asyncpg.Record]", migration: Migration) -> None:
    if migration.script.startswith(NO_TRANSACTION):
        for statement in migration.script.split(";\n"):
            if statement.strip():
                await connection.execute(statement)
        await migrations.record(connection, migration.name, migration.digest)
        return
    async with connection.transaction():
        await migrations.limit_waits(connection, seconds=LONGEST_WAIT)
        await connection.execute(migration.script)
        await migrations.record(connection, migration.name, migration.digest)


def main() -> None:
    """Run `quarterjack-migrate [--with telemetry] [--check]`."""
    parser = argparse.ArgumentParser(prog="quarterjack-migrate", description=__doc__.split("\n")[0])
    parser.add_argument("--with", dest="optional", action="append", choices=OPTIONAL, default=[])
    parser.add_argument("--check", action="store_true", help="say what is missing, change nothing")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    try:
        asyncio.run(_main(options))
    except asyncpg.LockNotAvailableError:
        sys.exit(
            f"quarterjack-migrate: a table was in use for longer than {LONGEST_WAIT} s; nothing of this file was "
            "applied. End the long transactions on it, or try again"
        )
    except MENDABLE as error:
        sys.exit(f"quarterjack-migrate: {in_words(error)}")
    except asyncpg.PostgresError as error:
        sys.exit(f"quarterjack-migrate: {error}")


async def _main(options: argparse.Namespace) -> None:
    address = from_environment()
    if options.check:
        connection = await connect(address, name="quarterjack-migrate")
        try:
            await check_for_service(connection)
        finally:
            await connection.close()
        log.info("the schema fits this release")
        return
    done = await apply(address, optional=options.optional)
    log.info(
        "applied %d migrations" if done else "nothing to apply", *([len(done)] if done else [])
    )


if __name__ == "__main__":
    main()
