"""What a worker and a process of its pool say to each other: pickled, with the length before it.

Both ends are this program, over a socket that nobody else has.
"""

import asyncio
import pickle
import struct
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO

from quarterjack.model import Job
from quarterjack.new_job import NewJob
from quarterjack.queries.claims import Claim

LENGTH = struct.Struct(">Q")


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """To the process, first: what defines its jobs, and where Python finds it."""

    path: list[str]
    modules: list[str]


@dataclass(frozen=True, slots=True)
class Ready:
    """From the process: it waits for a job."""


@dataclass(frozen=True, slots=True)
class Ping:
    """To the process: say if you are ready."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """To the process: run this job."""

    job: Job
    claim: Claim
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Stop:
    """To the process: the job should stop."""


@dataclass(frozen=True, slots=True)
class Ask:
    """From the process: give the next of what the job waited for, beyond this id."""

    number: int
    beyond: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """To the process: what it asked for by this number, or why it is not to be had."""

    number: int
    parents: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """From the process: the job returned `outcome`, or failed with `error`; its context's notes and children."""

    outcome: object = None
    error: str | None = None
    notes: dict[str, Any] = field(default_factory=dict)
    children: list[NewJob] = field(default_factory=list)


def pack(message: object) -> bytes:
    """Write a message; raises what pickle raises on values that cannot leave their process."""
    body = pickle.dumps(message)
    return LENGTH.pack(len(body)) + body


async def read(reader: asyncio.StreamReader) -> Any:
    """Wait for a message; EOFError when there is none any more."""
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    return pickle.loads(await reader.readexactly(length))  # noqa: S301 - our own process wrote it


def receive(file: BinaryIO) -> Any:
    """Wait for a message; EOFError when there is none any more, or not all of it."""
    (length,) = LENGTH.unpack(_take(file, LENGTH.size))
    return pickle.loads(_take(file, length))  # noqa: S301 - the worker wrote it


def _take(file: BinaryIO, length: int) -> bytes:
    taken = file.read(length)
    if len(taken) < length:
        raise EOFError
    return taken
