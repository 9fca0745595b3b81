"""The leader tells Oban Web, while there is one, how many jobs there are and which schedules."""

import logging
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from quarterjack import channels, cron, oban_web
from quarterjack.clock import boot
from quarterjack.database import Connection
from quarterjack.encoding import encode_object
from quarterjack.errors import JobInvalid
from quarterjack.model import JobState
from quarterjack.oban_web import Audience, Entry, Told
from quarterjack.queries import notifications
from quarterjack.queries import oban_web as queries
from quarterjack_scheduler.turns import Turn

log = logging.getLogger(__name__)

EVERY = 1.0
CRONTAB_EVERY = 15.0
CRONTAB_LIMIT = 500
LEFT_TO_OTHERS = 5.0
MANY, MANY_EVERY = 50_000, 60.0


class ObanWeb:
    """One duty of the leader; `turn` is rung when an Oban Web appears."""

    def __init__(self, node: str) -> None:
        self.turn = Turn()
        self._node = node
        self._audience = Audience()
        self._others_counted_at = -math.inf
        self._crontab_at = -math.inf
        self._counts = Counts()

    def heard(self, channel: str, message: Mapping[str, Any]) -> None:
        """Take a message on `oban_cronitor` or `oban_metrics`.

        A newly found Web hears no counts at first: if its own node counts, it would add ours to them.
        """
        if channel == channels.METRICS:
            if oban_web.counts_of_others(message):
                self._others_counted_at = boot()
            return
        present = self._audience.present
        self._audience.heard(message)
        if self._audience.present and not present:
            self._others_counted_at = boot()
            self.turn.ring()

    async def tell(self, db: Connection) -> float | None:
        """Tell what is due; None while nobody listens."""
        if not self._audience.present:
            return None
        told: Told = []
        if boot() - self._crontab_at >= CRONTAB_EVERY:
            self._crontab_at = boot()
            told += oban_web.crontab(self._node, await _entries(db))
        if boot() - self._others_counted_at > LEFT_TO_OTHERS:
            told += oban_web.counts(self._node, await self._counts.look(db))
        if told:
            await notifications.send_all(db, told)
        return EVERY


class Counts:
    """Counts jobs each second, in states that have many only once a minute."""

    def __init__(self) -> None:
        self._known: dict[str, list[tuple[str, str, int]]] = {}
        self._all_at = -math.inf

    async def look(self, db: Connection) -> list[tuple[str, str, int]]:
        """Give state, queue, number."""
        sizes = Counter[str]()
        for state, _, count in (each for found in self._known.values() for each in found):
            sizes[state] += count
        everything = boot() - self._all_at >= MANY_EVERY
        states = [state.value for state in JobState if everything or sizes[state] < MANY]
        if everything:
            self._all_at = boot()
        self._known |= {state: [] for state in states}
        for state, queue, count in await queries.count_jobs(db, states):
            self._known[state].append((state, queue, count))
        return [each for found in self._known.values() for each in found]


async def _entries(db: Connection) -> list[Entry]:
    """Give the schedules that can be read; what is wrong with the others is said on their own pages."""
    entries = []
    for row in await queries.crontab(db, limit=CRONTAB_LIMIT):
        try:
            encode_object("args", row["args"])
            entries.append(Entry(**row | {"cron": cron.read(row["cron"], row["name"])}))
        except (cron.CronError, JobInvalid):
            continue
    return entries
