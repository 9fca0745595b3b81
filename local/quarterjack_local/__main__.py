"""Run everything in one command: `quarterjack-local up`, and `quarterjack-local psql`."""

import argparse
import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from quarterjack.database import Address, from_environment
from quarterjack.errors import QuarterjackError
from quarterjack_local import state
from quarterjack_local.postgres import Server
from quarterjack_local.privileges import PostgresFailed
from quarterjack_local.up import DatabaseRefused, Up

DATABASE = "quarterjack"
OTHER_ADDRESSES = ("DATABASE_URL_FILE", "DATABASE_DIRECT_URL", "DATABASE_DIRECT_URL_FILE")
SAID = (QuarterjackError, PostgresFailed, DatabaseRefused, state.Unusable)


def main() -> None:
    """Run the command line."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    parser = _parser()
    options, rest = parser.parse_known_args()
    if options.run is _psql:
        options.arguments = rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    try:
        sys.exit(options.run(options))
    except SAID as error:
        sys.exit(f"quarterjack-local: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def _up(options: argparse.Namespace) -> int:
    path = state.directory()
    with state.only_one(path) as alone:
        if not alone:
            running = state.read(path)
            print(f"already running: {running.get('admin_url', 'starting')}", file=sys.stderr)
            return 1
        state.end_leftovers(path)
        with _database(options.database_url) as url:
            port = state.choose_port(options.port)
            up = Up(path, _use(url), options.schedulers, options.workers, port)
            return asyncio.run(up.run())


@contextmanager
def _database(url: str | None) -> Iterator[str]:
    """Give the address that was asked for, or that of an embedded server which stops in the end."""
    if url:
        yield url
        return
    _ignore_other_servers()
    server = Server(state.directory() / "postgres")
    try:
        server.start()
        server.make_database(DATABASE)
        yield server.url(DATABASE)
    finally:
        server.stop(within=2)


def _ignore_other_servers() -> None:
    """A shell set up for some other Postgres (PGSSLMODE, PGOPTIONS...) must not change how ours is reached."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _use(url: str) -> Address:
    """Make it the services' database, whatever the caller's environment says."""
    for name in OTHER_ADDRESSES:
        os.environ.pop(name, None)
    os.environ["DATABASE_URL"] = url
    return from_environment()


def _psql(options: argparse.Namespace) -> int:
    path = state.directory()
    server = Server(path / "postgres")
    program = server.bin_dir / "psql"
    found = str(program) if program.is_file() else shutil.which("psql")
    if not found:
        raise PostgresFailed("psql was not found: install Debian's postgresql-client")
    with state.only_one(path) as alone:
        if alone:
            _ignore_other_servers()
            server.start()
            server.make_database(DATABASE)
        url = server.url(DATABASE) if alone else state.read(path).get("database_url")
    if url is None:
        raise state.Unusable("./dev up is still starting: try again in a moment")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = subprocess.run([found, url, *options.arguments]).returncode
    with state.only_one(path) as alone:
        if alone:
            server.stop()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="quarterjack-local", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    up = verbs.add_parser("up", help="run Postgres and all services")
    up.add_argument("--schedulers", type=_number(0, 50), default=2, metavar="N")
    up.add_argument("--workers", type=_number(0, 50), default=2, metavar="N")
    up.add_argument(
        "--port",
        type=_number(1, 65_535),
        default=8080,
        help="of the admin, default 8080; the next free one if taken",
    )
    up.add_argument(
        "--database-url", metavar="URL", help="use this server instead of the embedded one"
    )
    up.set_defaults(run=_up)
    psql = verbs.add_parser("psql", help="open the database; arguments go to psql", add_help=False)
    psql.set_defaults(run=_psql)
    return parser


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        number = int(text) if text.isdecimal() else -1
        if not least <= number <= most:
            raise argparse.ArgumentTypeError(f"give a number from {least} to {most}")
        return number

    return parse


if __name__ == "__main__":
    main()
