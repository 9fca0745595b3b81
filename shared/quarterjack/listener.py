"""One LISTEN connection that reconnects for ever, proves that it hears, and wakes whoever waits."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import asyncpg

from quarterjack import channels
from quarterjack.clock import within
from quarterjack.database import LOST, Address, Pool, connect
from quarterjack.queries import notifications

log = logging.getLogger(__name__)

CANARY_EVERY = 4.5
CANARY_PATIENCE = 2.0
FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0

Heard = Callable[[str, dict[str, Any]], None]


class Listener:
    """Calls `heard(name, payload)` for each object on the named channels, `gap()` after each (re)connect.

    A notification is a hint: `gap` must make the caller look for itself. Every 4.5 s a nonce goes round
    through the server, because a half-open connection and a transaction pooler both look healthy.
    """

    def __init__(
        self,
        address: Address,
        pool: Pool,
        names: tuple[str, ...],
        *,
        heard: Heard,
        gap: Callable[[], None],
        who: str,
    ) -> None:
        self.connected = False
        self.ignored = 0
        self._address = address
        self._pool = pool
        self._names = {channels.channel(address.schema, name): name for name in names}
        self._heard = heard
        self._gap = gap
        self._who = who
        self._canary = channels.channel(address.schema, f"qj_canary_{uuid4().hex[:12]}")
        self._returned = asyncio.Event()
        self._delay = FIRST_DELAY

    async def run(self) -> None:
        """Listen until cancelled."""
        while True:
            try:
                await self._listen()
            except LOST as error:
                log.warning("listener lost its connection: %s; again in %.1f s", error, self._delay)
            self.connected = False
            await asyncio.sleep(self._delay)
            self._delay = min(self._delay * 2, LONGEST_DELAY)

    async def _listen(self) -> None:
        connection = await connect(self._address, name=self._who)
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        try:
            for channel in (*self._names, self._canary):
                await connection.add_listener(channel, self._receive)
            self.connected = True
            self._gap()
            while not lost.is_set():
                await self._prove()
                await within(CANARY_EVERY, lost.wait())
            raise ConnectionResetError("the server closed the listening connection")
        finally:
            connection.terminate()

    async def _prove(self) -> None:
        self._returned.clear()
        try:
            async with asyncio.timeout(CANARY_PATIENCE):
                await self._send()
                await self._returned.wait()
        except TimeoutError as error:
            raise TimeoutError(f"it did not hear itself within {CANARY_PATIENCE:g} s") from error
        self._delay = FIRST_DELAY

    async def _send(self) -> None:
        try:
            await notifications.send(self._pool, self._canary, "{}")
        except asyncpg.ProgramLimitExceededError:
            await notifications.trim(self._pool)
            raise

    def _receive(self, _: Any, __: int, channel: str, payload: object) -> None:
        if channel == self._canary:
            self._returned.set()
            return
        message = channels.decode(str(payload))
        if message is None:
            self.ignored += 1
            log.debug("ignored a payload on %s that is not a JSON object", channel)
            self._gap()
            return
        self._heard(self._names[channel], message)
