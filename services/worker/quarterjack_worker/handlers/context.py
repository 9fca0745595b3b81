"""What a handler may know and do besides its args."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from quarterjack.database import Connection, Pool
from quarterjack.errors import QuarterjackError
from quarterjack.model import Job
from quarterjack.queries import acks
from quarterjack.queries.claims import Claim
from quarterjack_worker.handlers.telling import Telling, Told

log = logging.getLogger(__name__)

LONGEST_WARNING = 1_000


class ClaimLost(QuarterjackError):
    """The job was taken from this worker meanwhile; what the transaction wrote is rolled back."""


@dataclass(slots=True, kw_only=True)
class Context:
    """One attempt of a job. `deadline` is when its timeout ends it, None if nothing does.

    `cancelled` turns true when the job should stop: cancelled by someone, out of time, or the worker is
    going down.
    """

    job: Job
    claim: Claim
    handlers_pool: "Pool | None"
    told: Told
    deadline: datetime | None = None
    cancelled: bool = False
    killed: bool = False
    completed: bool = False
    warning: str | None = None
    thread: asyncio.Future[tuple[object, BaseException | None]] | None = None
    _telling: Telling | None = field(default=None, init=False)

    @property
    def attempt(self) -> int:
        """The number of this attempt, from 1."""
        return self.job.attempt

    @property
    def pool(self) -> Pool:
        """Connections to the database of the jobs. A handler in a process has none, RuntimeError."""
        if self.handlers_pool is None:
            raise RuntimeError(
                "a handler in a process has no pool: connect there, or make it async def"
            )
        return self.handlers_pool

    def cancel(self) -> None:
        """Ask the handler to stop; for the worker."""
        self.cancelled = True

    def kill(self) -> None:
        """Ask the handler to stop because someone cancelled the job; for the worker."""
        self.killed = True
        self.cancel()

    def warn(self, text: str) -> None:
        """Say something that an admin should see, in the log and with the job; the last one is kept."""
        log.warning("job %s: %s", self.job.id, text, extra={"job_id": self.job.id})
        self.warning = text[:LONGEST_WARNING]

    def progress(self, percent: float, message: str | None = None) -> None:
        """Show on the job's page how far this attempt is, within a second; call it as often as you like."""
        self.telling().progress(percent, message)

    def telling(self) -> Telling:
        """Give what collects progress and log lines; for the worker."""
        if self._telling is None:
            self._telling = Telling(self.claim, self.told)
        return self._telling

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """Write to this database once: what is written inside commits together with the completion.

        Use it last. If the job was taken from this worker meanwhile, or the block raises, nothing is
        written. Only for `async def` handlers.
        """
        async with self.pool.acquire() as connection, connection.transaction():
            yield connection
            done = acks.Ack(claim=self.claim, state="completed", meta=self.notes())
            if not await acks.ack(connection, [done]):
                raise ClaimLost(f"job {self.job.id} was taken from this worker; it runs elsewhere")
        self.completed = True

    def notes(self) -> dict[str, str]:
        """Give what is merged into the job's meta with its ack."""
        return {} if self.warning is None else {"warning": self.warning}
