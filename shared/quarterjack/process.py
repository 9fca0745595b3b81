"""What every service process does alike: a name, logs, an orderly end."""

import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime

import asyncpg

from quarterjack.database import UNREACHABLE
from quarterjack.errors import QuarterjackError, SettingInvalid

LINE = "%(asctime)s %(levelname)-7s %(message)s"
ON, OFF = ("on", "1", "true", "yes"), ("", "off", "0", "false", "no")
MENDABLE = (
    QuarterjackError,
    *UNREACHABLE,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
    asyncpg.InsufficientPrivilegeError,
    asyncpg.InvalidSchemaNameError,
)
"""What keeps a program from starting until a person has done something."""
STDERR = 2
STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def node_name() -> str:
    """Give QUARTERJACK_NODE, or host and pid; names are shown, never trusted to be unique."""
    return os.environ.get("QUARTERJACK_NODE") or f"{socket.gethostname()}.{os.getpid()}"


def set_up_logging() -> None:
    """Log to stdout; QUARTERJACK_LOG chooses text or json, QUARTERJACK_LOG_LEVEL the least level."""
    _keep_standard_descriptors()
    form = os.environ.get("QUARTERJACK_LOG", "text")
    level = os.environ.get("QUARTERJACK_LOG_LEVEL", "INFO").upper()
    if form not in ("text", "json"):
        raise SettingInvalid(f"QUARTERJACK_LOG is {form!r}: choose text or json")
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR"):
        raise SettingInvalid(
            f"QUARTERJACK_LOG_LEVEL is {level!r}: choose debug, info, warning or error"
        )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter(LINE))
    handler.addFilter(in_one_line)
    handler.addFilter(is_awaited)
    logging.basicConfig(level=level, handlers=[handler], force=True)


def _keep_standard_descriptors() -> None:
    """Let those that are closed lead nowhere: a connection would get their numbers, and what a library prints."""
    while (lowest := os.open(os.devnull, os.O_RDWR)) <= STDERR:
        os.set_inheritable(lowest, True)
    os.close(lowest)


def in_one_line(record: logging.LogRecord) -> bool:
    """Give a warning its error's words instead of a traceback: what is tried again is nobody's bug."""
    if record.exc_info and record.levelno < logging.ERROR:
        record.msg, record.args = f"{record.getMessage()}: {record.exc_info[1]}", ()
        record.exc_info = record.exc_text = None
    return True


def is_awaited(record: logging.LogRecord) -> bool:
    """Drop what asyncio says of a connection that broke after nobody waited for it any more: asyncpg leaves those."""
    broke = record.exc_info and isinstance(record.exc_info[1], ConnectionError)
    return not (broke and record.name == "asyncio" and "never retrieved" in record.getMessage())


class TextFormatter(logging.Formatter):
    """One line, and what goes on is indented: a name that holds a line end cannot pass for another line."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        said = super().formatMessage(record)
        return said.replace("\r", "\\r").replace("\n", "\n    ")


class JsonFormatter(logging.Formatter):
    """One JSON object per line, with whatever a call passed as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {key: value for key, value in vars(record).items() if key not in STANDARD}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def switched_on(name: str) -> bool:
    """Say if the variable NAME is on; it is off if it is not set. SettingInvalid if it is neither."""
    value = os.environ.get(name, "")
    if value.lower() not in (*ON, *OFF):
        raise SettingInvalid(f"{name} is {value!r:.60}: choose on or off")
    return value.lower() in ON


def stop_event() -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set, from now on."""
    stopping = asyncio.Event()
    _on_signal(stopping.set)
    return stopping


def run(program: str, service: Coroutine[None, None, int]) -> None:
    """Run to the end and exit; what a person can mend is said in one line.

    A signal that comes before the service asks for its `stop_event` ends it at once.
    """
    try:
        sys.exit(asyncio.run(_begin(service)))
    except asyncio.CancelledError:
        sys.exit(0)
    except MENDABLE as error:
        sys.exit(f"{program}: {in_words(error)}")


async def _begin(service: Coroutine[None, None, int]) -> int:
    task = asyncio.current_task()
    assert task is not None
    _on_signal(task.cancel)
    return await service


def _on_signal(act: Callable[[], object]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, act)


def in_words(error: BaseException) -> str:
    """Say in one line what is to be mended."""
    match error:
        case QuarterjackError():
            return str(error)
        case asyncpg.InsufficientPrivilegeError() | asyncpg.InvalidSchemaNameError():
            return (
                f"{error}: give the role what the documentation's page Security grants; "
                "quarterjack-migrate must own Oban's tables, with USAGE and CREATE on the schema"
            )
    return f"cannot reach the database: {error}"
