"""Workflows and batches: jobs that wait for each other, enqueued together, all or none."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from quarterjack.client import enqueue_tied
from quarterjack.database import Database
from quarterjack.errors import JobInvalid
from quarterjack.following import Link, Ties
from quarterjack.new_job import NewJob
from quarterjack.unique import are_texts

LONGEST = 127


class Workflow:
    """Jobs by names of your choice, each of which may wait for others of them: a directed graph without cycles."""

    def __init__(self, name: str) -> None:
        self.name = _read_name("a workflow", name)
        self._jobs: dict[str, NewJob] = {}
        self._after: dict[str, tuple[str, ...]] = {}

    def add(self, name: str, job: NewJob, *, after: Sequence[str] = ()) -> None:
        """Add a job that waits for those that are called as `after` says, which may be added later."""
        _read_name("a job of a workflow", name)
        if name in self._jobs:
            raise JobInvalid(
                f"{name!r} is in the workflow already: each of its jobs has a name of its own"
            )
        if not are_texts(after):
            raise JobInvalid(f"after is {after!r:.60}: give a list of names")
        self._jobs[name] = _plain(name, job)
        self._after[name] = tuple(dict.fromkeys(after))

    async def enqueue(self, db: Database) -> dict[str, int]:
        """Insert all jobs; the id of each by its name. JobInvalid, before anything is sent, if they cannot be."""
        depths = self._depths()
        places = {name: place for place, name in enumerate(self._jobs)}
        links = [
            Link(parent=places[parent], child=places[name], name=parent)
            for name, after in self._after.items()
            for parent in after
        ]
        whole = {"id": uuid4().hex, "name": self.name}
        marks = [{**whole, "job": name, "depth": depths[name]} for name in self._jobs]
        ids = await _enqueue(db, list(self._jobs.values()), links, marks)
        return dict(zip(self._jobs, ids, strict=True))

    def _depths(self) -> dict[str, int]:
        """Give how many jobs, one after the other, come before each."""
        if not self._jobs:
            raise JobInvalid(f"the workflow {self.name!r} has no job: add one")
        children: dict[str, list[str]] = {name: [] for name in self._jobs}
        waits = {name: len(after) for name, after in self._after.items()}
        for name, after in self._after.items():
            for parent in after:
                if parent not in self._jobs:
                    raise JobInvalid(
                        f"{name!r} is to come after {parent!r:.140}, which is not in the workflow: add it"
                    )
                children[parent].append(name)
        depths = {name: 0 for name, count in waits.items() if count == 0}
        ready = list(depths)
        for parent in ready:
            for child in children[parent]:
                waits[child] -= 1
                depths[child] = max(depths.get(child, 0), depths[parent] + 1)
                if waits[child] == 0:
                    ready.append(child)
        if len(ready) < len(self._jobs):
            stuck = ", ".join(sorted(self._jobs.keys() - set(ready))[:5])
            raise JobInvalid(f"these jobs wait for each other in a circle: {stuck}")
        return depths


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """The ids of the jobs of a batch, in their order, and that of its callback."""

    ids: list[int]
    callback: int


async def enqueue_batch(db: Database, new: Iterable[NewJob], callback: NewJob) -> Batch:
    """Insert jobs, and one that runs when all of them have completed, or ended as its `even_if` says besides."""
    jobs = [_plain(f"job {place} of the batch", job) for place, job in enumerate(new)]
    if not jobs:
        raise JobInvalid("the batch has no job: enqueue the callback by itself")
    last = len(jobs)
    jobs.append(_plain("the callback", callback))
    links = [Link(parent=place, child=last) for place in range(last)]
    whole = {"id": uuid4().hex, "name": callback.worker}
    marks = [{**whole, "depth": 0 if place < last else 1} for place in range(len(jobs))]
    *ids, id = await _enqueue(db, jobs, links, marks)
    return Batch(ids=ids, callback=id)


async def _enqueue(
    db: Database, jobs: Sequence[NewJob], links: Sequence[Link], marks: Sequence[dict[str, Any]]
) -> list[int]:
    followed = {link.parent for link in links}
    meta = {
        place: {"qj_workflow": mark} | ({"qj_followed": True} if place in followed else {})
        for place, mark in enumerate(marks)
    }
    results = await enqueue_tied(db, jobs, Ties(links=links, marks=meta))
    return [result.id for result in results if result.id is not None]


def _plain(name: str, job: object) -> NewJob:
    """Refuse what cannot be a part: a unique job may turn out to be another that exists."""
    if not isinstance(job, NewJob):
        raise JobInvalid(f"{name}: {job!r:.60} is no job: give a NewJob, as new_job makes it")
    if job.unique is not None:
        raise JobInvalid(f"{name}: a unique job cannot be a part of this: give unique=None")
    return job


def _read_name(what: str, name: object) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= LONGEST:
        raise JobInvalid(f"{what} is called {name!r:.60}: give a name of 1 to {LONGEST} characters")
    return name
