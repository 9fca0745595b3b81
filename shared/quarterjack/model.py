"""Rows of the contract as frozen values; all times are aware and UTC."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID


class JobState(StrEnum):
    """The states of Oban's jobs, as a column of its own type holds them."""

    AVAILABLE = "available"
    SUSPENDED = "suspended"
    SCHEDULED = "scheduled"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    DISCARDED = "discarded"
    CANCELLED = "cancelled"

    @classmethod
    def _missing_(cls, value: object) -> "JobState":
        """Take a state that a newer Oban has added for what it is called; it is none of the members."""
        unknown = str.__new__(cls, value)
        unknown._name_, unknown._value_ = unknown.upper(), str(value)
        return unknown


INCOMPLETE = (
    JobState.SUSPENDED,
    JobState.AVAILABLE,
    JobState.SCHEDULED,
    JobState.EXECUTING,
    JobState.RETRYABLE,
)
SUCCESSFUL = (*INCOMPLETE, JobState.COMPLETED)
STATE_GROUPS: dict[str, tuple[JobState, ...]] = {
    "incomplete": INCOMPLETE,
    "successful": SUCCESSFUL,
    "scheduled": (JobState.SCHEDULED,),
    "all": tuple(JobState),
}


@dataclass(slots=True, kw_only=True)
class Job:
    """A row of oban_jobs. Not frozen: a worker makes thousands a second, which would take three times as long."""

    id: int
    state: JobState
    queue: str
    worker: str
    args: dict[str, Any]
    meta: dict[str, Any]
    tags: list[str]
    errors: list[dict[str, Any]]
    attempt: int
    max_attempts: int
    priority: int
    attempted_by: list[str]
    inserted_at: datetime
    scheduled_at: datetime
    attempted_at: datetime | None
    completed_at: datetime | None
    cancelled_at: datetime | None
    discarded_at: datetime | None

    @property
    def result(self) -> Any:
        """Give what its handler returned, if its type is `recorded`; otherwise None."""
        return self.meta.get("result")


Row = dict[str, Any]
"""What is written of a new job, by column; and what it waits for, or is unique by, if it does."""


class Enqueued(NamedTuple):
    """What became of an insert: the new job's id, or the id of the job it conflicts with, and if that was replaced.

    There is no id when the job that it conflicts with is deleted in the same moment.
    """

    id: int | None
    conflict: bool = False
    replaced: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A row of qj_schedules."""

    id: int
    name: str
    description: str
    worker: str
    cron: str
    timezone: str
    dst: str
    jitter: timedelta
    start_at: datetime | None
    end_at: datetime | None
    blackouts: list[str]
    calendars: list[str]
    args: dict[str, Any]
    queue: str
    priority: int
    max_attempts: int
    tags: list[str]
    uniqueness: dict[str, Any] | None
    catchup: str
    catchup_window: timedelta
    catchup_limit: int
    overlap: str
    timeout: timedelta | None
    max_failures: int | None
    expected_within: timedelta | None
    managed_by: str
    paused_at: datetime | None
    paused_by: str | None
    paused_reason: str | None
    resume_at: datetime | None
    skip_tick_at: datetime | None
    skip_by: str | None
    version: int
    inserted_at: datetime
    updated_at: datetime
    updated_by: str
    planned_from: datetime
    next_run_at: datetime | None
    last_tick_at: datetime | None
    broken_reason: str | None
    applied_version: int | None
    applied_at: datetime | None
    applied_by: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobType:
    """A row of qj_job_types: something that workers can run."""

    worker: str
    description: str
    args_schema: dict[str, Any]
    queue: str
    priority: int
    max_attempts: int
    tags: list[str]
    timeout: timedelta | None
    uniqueness: dict[str, Any] | None
    schedule: dict[str, Any] | None
    redacted: list[str]
    registered_at: datetime
    registered_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A row of qj_peers: a live scheduler replica."""

    uuid: UUID
    node: str
    pid: int
    version: str
    started_at: datetime
    heartbeat_at: datetime
    lag: timedelta
    clock_offset: timedelta
