"""What a worker is told on its command line."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID, uuid5

STOPPED, CONDEMNED = 74, 75
"""Exit codes of a worker process for its supervisor: a handler may end the process with any other one, also with 0."""
LARGEST = 10_000
"""As the contract's LARGEST_LIMIT; the supervisor, which reads these settings too, loads no contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Modules to import, queues with their limits, how many processes at most, and seconds to drain."""

    modules: tuple[str, ...]
    queues: dict[str, int]
    processes: int
    grace: float

    def producers(self, life: UUID) -> dict[str, UUID]:
        """Name the producers of one life of the process, the same in it and in its supervisor."""
        return {queue: uuid5(life, queue) for queue in self.queues}

    def queue_words(self) -> str:
        return ", ".join(f"{name} up to {limit}" for name, limit in self.queues.items())


def parse(arguments: Sequence[str] | None = None) -> Settings:
    """Read the command line; exits with a usage message if it cannot be used."""
    parser = _parser()
    options = parser.parse_args(arguments)
    queues: dict[str, int] = {}
    for name, limit in (pair for pairs in options.queues for pair in pairs):
        if name in queues:
            parser.error(f"argument --queue: {name} is given twice")
        queues[name] = limit
    return Settings(
        modules=tuple(options.modules),
        queues=queues,
        processes=options.processes,
        grace=options.grace,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quarterjack-worker",
        description="Runs jobs of some queues.",
        epilog="environment: DATABASE_URL, DATABASE_DIRECT_URL, QUARTERJACK_SCHEMA, QUARTERJACK_NODE, "
        "QUARTERJACK_TELEMETRY, QUARTERJACK_STATEMENT_CACHE, QUARTERJACK_LOG, QUARTERJACK_LOG_LEVEL; "
        "QUARTERJACK_HEALTH=host:port answers /live, /ready and /metrics there",
    )
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        required=True,
        metavar="MODULE",
        help="a module that defines jobs; may be repeated",
    )
    parser.add_argument(
        "--queue",
        dest="queues",
        action="append",
        required=True,
        type=_queues,
        metavar="NAME=LIMIT,…",
        help="queues to work on and how many jobs of each to run at once; may be repeated",
    )
    parser.add_argument(
        "--processes",
        type=_count,
        default=os.cpu_count() or 1,
        metavar="N",
        help="how many jobs with process=True may run at once, default one per CPU",
    )
    parser.add_argument(
        "--grace",
        type=_seconds,
        default=15.0,
        metavar="SECONDS",
        help="how long running jobs may go on after SIGTERM, default 15",
    )
    return parser


def _queues(text: str) -> list[tuple[str, int]]:
    pairs = []
    for part in text.split(","):
        name, _, limit = part.strip().rpartition("=")
        if not 0 < len(name) < 128 or not limit.isdecimal() or not 0 < int(limit) <= LARGEST:
            raise argparse.ArgumentTypeError(
                f"{part!r} is not NAME=LIMIT with a limit of 1 to {LARGEST}, as in default=10"
            )
        pairs.append((name, int(limit)))
    return pairs


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to {LARGEST}")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0 to 86400")
    return seconds
