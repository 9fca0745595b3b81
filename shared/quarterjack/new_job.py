"""A job to be: what is checked when it is made, and the row that it becomes."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypedDict

from quarterjack.encoding import UNSTORABLE, encode_object
from quarterjack.errors import JobInvalid
from quarterjack.following import read_after
from quarterjack.model import Row
from quarterjack.queries.jobs import within_calendar
from quarterjack.unique import Unique

MAX_MAX_ATTEMPTS = 32_767
ROW = 500
OURS = {
    "qj_unique": "`unique` makes it: give that instead",
    "qj_followed": "jobs that wait for this one make it: leave it out",
    "qj_workflow": "a Workflow makes it: leave it out",
}


@dataclass(slots=True, kw_only=True)
class NewJob:
    """A job to enqueue; any `scheduled_at`, even a past one, makes it `scheduled` as in Oban.

    It waits, `suspended`, until the jobs of the ids in `after` have completed. If one of them is cancelled, discarded
    or deleted instead, it is cancelled, unless `even_if` names that. It is checked when it is made: for another, use
    `dataclasses.replace`.
    """

    worker: str
    args: Mapping[str, Any] = field(default_factory=dict)
    queue: str = "default"
    scheduled_at: datetime | None = None
    priority: int = 0
    max_attempts: int = 20
    tags: Sequence[str] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    unique: Unique | None = None
    after: Sequence[int | None] = ()
    even_if: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.worker, str) or not _is_name(self.worker):
            raise _misnamed("worker", self.worker)
        if not isinstance(self.queue, str) or not _is_name(self.queue):
            raise _misnamed("queue", self.queue)
        if type(self.priority) is not int or not 0 <= self.priority <= 9:
            raise JobInvalid(f"priority is {self.priority!r:.60}: give 0 (first) to 9 (last)")
        if type(self.max_attempts) is not int or not 0 < self.max_attempts <= MAX_MAX_ATTEMPTS:
            raise JobInvalid(
                f"max_attempts is {self.max_attempts!r:.60}: give 1 to {MAX_MAX_ATTEMPTS}"
            )
        if self.tags != ():
            _check_tags(self.tags)
        if self.unique is not None and not isinstance(self.unique, Unique):
            raise JobInvalid(f"unique is {self.unique!r:.60}: give a Unique, or None")
        if self.scheduled_at is not None:
            _check_time(self.scheduled_at)
        if self.after != () or self.even_if != ():
            self.after = read_after(self.after, self.even_if)
        if self.after and self.unique is not None:
            raise JobInvalid(
                "a unique job cannot wait for others, since it may turn out to be one that exists: "
                "give `after` or `unique`"
            )


class Options(TypedDict, total=False):
    """What a job may be given besides its type's defaults: the rest of NewJob's, each as there."""

    queue: str
    scheduled_at: datetime | None
    priority: int
    max_attempts: int
    tags: Sequence[str]
    meta: Mapping[str, Any]
    unique: Unique | None
    after: Sequence[int | None]
    even_if: Sequence[str]


def row_of(job: NewJob, mark: Mapping[str, Any] | None = None) -> Row:
    """Give what is written of a job, with meta of ours if there is a mark; JobInvalid if it cannot be stored."""
    if job.meta and isinstance(job.meta, Mapping):
        for name, why in OURS.items():
            if name in job.meta:
                raise JobInvalid(f"meta holds {name}; {why}")
    row: Row = {
        "worker": job.worker,
        "queue": job.queue,
        "state": "suspended" if job.after else "scheduled" if job.scheduled_at else "available",
        "scheduled_at": None
        if job.scheduled_at is None
        else within_calendar(job.scheduled_at.astimezone(UTC)),
        "priority": job.priority,
        "max_attempts": job.max_attempts,
        "tags": _normal_tags(job.tags) if job.tags else (),
        "args": encode_object("args", job.args),
        "meta": encode_object("meta", job.meta),
    }
    if mark:
        row["meta"] = encode_object("meta", {**job.meta, **mark})
    if job.after or job.even_if:
        row |= {"after": job.after, "even_if": job.even_if}
    if job.unique is not None:
        key = job.unique.key(worker=job.worker, queue=job.queue, args=job.args)
        row |= {
            "meta": encode_object("meta", {**job.meta, "qj_unique": key}),
            "key": key,
            "states": job.unique.blocking_states(),
            "period": job.unique.period and str(job.unique.period),
            "replace": job.unique.replace,
        }
    return row


def fix(job: NewJob) -> int:
    """Let no change of what a job was made from reach it any more; about how many bytes it sends to the database.

    JobInvalid if it cannot be stored.
    """
    row_of(job)
    args, meta = encode_object("args", job.args), encode_object("meta", job.meta)
    job.args, job.meta, job.tags = json.loads(args), json.loads(meta), tuple(job.tags)
    return len(args) + len(meta) + ROW


def _normal_tags(tags: Sequence[str]) -> list[str]:
    """Trim, lower, drop empty and repeated ones, as Oban does."""
    return list(dict.fromkeys(tag.strip().lower() for tag in tags if tag.strip()))


@lru_cache(1_000)
def _is_name(value: str) -> bool:
    return value != "" and _is_text(value, longest=127)


def _misnamed(what: str, name: object) -> JobInvalid:
    if callable(name):
        return JobInvalid(
            f"{what} is {name!r:.60}: give a name, or to enqueue_many what "
            "quarterjack_worker.new_job makes of a handler"
        )
    return JobInvalid(f"{what} is {name!r:.60}: give a name of 1 to 127 characters")


def _check_tags(tags: object) -> None:
    if isinstance(tags, str) or not isinstance(tags, Collection):
        raise JobInvalid(f"tags are {tags!r:.60}: give a list of texts")
    if not all(_is_text(tag, longest=255) for tag in tags):
        raise JobInvalid("tags must be a list of texts of at most 255 characters each")


def _is_text(value: object, *, longest: int) -> bool:
    return isinstance(value, str) and len(value) <= longest and not UNSTORABLE.search(value)


def _check_time(at: object) -> None:
    if not isinstance(at, datetime):
        raise JobInvalid(f"scheduled_at is {at!r:.60}: give an aware datetime")
    try:
        if at.utcoffset() is None:
            raise JobInvalid("scheduled_at has no time zone: give an aware datetime")
        at.astimezone(UTC)
    except OverflowError as error:
        raise JobInvalid(f"scheduled_at is {at}: out of the years 1 to 9999 in UTC") from error
