"""Run `quarterjack-admin`: serve the pages, or make a one-time sign-in link."""

import argparse
import asyncio
import logging
import secrets
import sys
from datetime import timedelta

from aiohttp import web

from quarterjack import migrate
from quarterjack.database import Connection, connect, from_environment
from quarterjack.errors import SettingInvalid
from quarterjack.process import MENDABLE, in_words, node_name, set_up_logging
from quarterjack.queries import access
from quarterjack_admin import config, guard
from quarterjack_admin.keys import POOL
from quarterjack_admin.log_filters import FullPort, is_of_a_request
from quarterjack_admin.pages.sign_in import LONGEST_NAME
from quarterjack_admin.permissions import ROLES

log = logging.getLogger(__name__)

LINK_LASTS = timedelta(minutes=15)
COMMAND = "quarterjack-admin"


def main() -> None:
    """Run the command line."""
    options = _parser().parse_args()
    try:
        options.run(options)
    except MENDABLE as error:
        sys.exit(f"quarterjack-admin: {in_words(error)}")


def _serve(options: argparse.Namespace) -> None:
    from quarterjack_admin.app import make_app

    set_up_logging()
    logging.getLogger("aiohttp.server").addFilter(is_of_a_request)
    logging.getLogger("asyncio").addFilter(FullPort())
    chosen = config.read(node=node_name(), host=options.host, port=options.port)
    app = make_app(chosen)

    def say(_: str) -> None:
        log.info("admin %s started: http://%s:%d", chosen.node, chosen.host, chosen.port)

    try:
        web.run_app(app, host=chosen.host, port=chosen.port, access_log=None, print=say)
    except OSError as error:
        if POOL not in app:
            raise
        why = f"cannot listen on {chosen.host} port {chosen.port}: {error.strerror}"
        raise SettingInvalid(why) from error


def _sign_in_link(options: argparse.Namespace) -> None:
    if options.role and not options.name:
        raise SettingInvalid("--role needs --name: whose role is it?")
    base_url = options.base_url.rstrip("/")
    config.check_url("--base-url", base_url)
    token = asyncio.run(_make_link(options.name, options.role))
    print(f"{base_url}/link/{token}")


async def _make_link(name: str | None, role: str | None) -> str:
    """Keep a link, and the account that it is for; SettingInvalid if there is none and no role to make it with."""
    token = secrets.token_urlsafe(32)
    connection = await connect(from_environment(), name="quarterjack-admin sign-in-link")
    try:
        await migrate.check(connection)
        async with connection.transaction():
            if name is not None:
                await _account(connection, name, role)
            await access.make_link(connection, guard.digest(token), lasts=LINK_LASTS, name=name)
    finally:
        await connection.close()
    return token


async def _account(db: Connection, name: str, role: str | None) -> None:
    user = await access.find_user(db, name)
    if user is None and role is None:
        raise SettingInvalid(f"there is no account {name!r}: add --role, and it is made")
    if user is not None and user.disabled_at is not None:
        raise SettingInvalid(f"the account {name!r} is disabled: set its disabled_at to NULL first")
    if role is not None:
        await access.give_role(db, name, role)
        before = {"role": user.role} if user else None
        await access.record(
            db, actor=COMMAND, action="give role", target=name, before=before, after={"role": role}
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quarterjack-admin",
        description=__doc__,
        epilog="environment: DATABASE_URL, DATABASE_DIRECT_URL, QUARTERJACK_SCHEMA, QUARTERJACK_NODE, "
        "QUARTERJACK_PUBLIC_URL, QUARTERJACK_ALLOW_PLAIN_HTTP, QUARTERJACK_TELEMETRY, "
        "QUARTERJACK_STATEMENT_CACHE, QUARTERJACK_LOG, QUARTERJACK_LOG_LEVEL",
    )
    parser.add_argument("--host", default="127.0.0.1", help="where to listen, default 127.0.0.1")
    parser.add_argument("--port", type=_port, default=8080, help="default 8080")
    parser.set_defaults(run=_serve)
    verbs = parser.add_subparsers()
    link = verbs.add_parser("sign-in-link", help="print a link that signs somebody in, once")
    link.add_argument("--base-url", required=True, metavar="URL", help="the page's address")
    link.add_argument("--name", type=_name, help="whose account; without it the first admin's")
    link.add_argument("--role", choices=ROLES, help="make the account, or change its role")
    link.set_defaults(run=_sign_in_link)
    return parser


def _name(text: str) -> str:
    name = text.strip().lower()
    if not 0 < len(name) <= LONGEST_NAME or not name.isprintable():
        raise argparse.ArgumentTypeError(f"give 1 to {LONGEST_NAME} printable characters")
    return name


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 65535")
    return int(text)


if __name__ == "__main__":
    main()
