"""Run everything in one command: `quarterjack-local up`, and `quarterjack-local psql`."""

import argparse
import asyncio
import os
import shutil
import sys

from quarterjack.errors import QuarterjackError
from quarterjack_local import state
from quarterjack_local.postgres import PostgresFailed, Server
from quarterjack_local.up import Up

DATABASE = "quarterjack"


def main() -> None:
    """Run the command line."""
    options = _parser().parse_args()
    try:
        sys.exit(options.run(options))
    except (QuarterjackError, PostgresFailed) as error:
        sys.exit(f"quarterjack-local: {error}")


def _up(options: argparse.Namespace) -> int:
    path = state.directory()
    with state.only_one(path) as alone:
        if not alone:
            running = state.read(path)
            print(f"already running: {running.get('admin_url', 'starting')}", file=sys.stderr)
            return 1
        server = None if options.database_url else Server(path / "postgres")
        url = options.database_url or _own_database(server)
        try:
            return asyncio.run(
                Up(
                    path, url, options.schedulers, options.workers, state.choose_port(options.port)
                ).run()
            )
        finally:
            if server is not None:
                server.stop()


def _own_database(server: Server | None) -> str:
    assert server is not None
    server.start()
    server.make_database(DATABASE)
    return server.url(DATABASE)


def _psql(options: argparse.Namespace) -> int:
    path = state.directory()
    server = Server(path / "postgres")
    url = state.read(path).get("database_url")
    if not url:
        url = _own_database(server)
    program = server.bin_dir / "psql"
    found = str(program) if program.is_file() else shutil.which("psql")
    if not found:
        raise PostgresFailed("psql was not found: install Debian's postgresql-client")
    os.execv(found, [found, str(url), *options.arguments])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="quarterjack-local", description=__doc__)
    verbs = parser.add_subparsers(required=True)
    up = verbs.add_parser("up", help="run Postgres and all services")
    up.add_argument("--schedulers", type=_count, default=2, metavar="N")
    up.add_argument("--workers", type=_count, default=2, metavar="N")
    up.add_argument(
        "--port", type=int, default=8080, help="of the admin; the next free one if taken"
    )
    up.add_argument(
        "--database-url", metavar="URL", help="use this server instead of the embedded one"
    )
    up.set_defaults(run=_up)
    psql = verbs.add_parser("psql", help="open the embedded database")
    psql.add_argument("arguments", nargs=argparse.REMAINDER)
    psql.set_defaults(run=_psql)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 50:
        raise argparse.ArgumentTypeError("give a number from 0 to 50")
    return number


if __name__ == "__main__":
    main()
