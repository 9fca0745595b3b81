"""Runs jobs: write them with `job`, run them with `quarterjack-worker --import your.module`."""

from quarterjack_worker.handlers.context import ClaimLost, Context
from quarterjack_worker.handlers.job_types import DefaultSchedule, JobTypeInvalid
from quarterjack_worker.handlers.middleware import middleware
from quarterjack_worker.handlers.outcomes import Cancel, Discard, Snooze
from quarterjack_worker.handlers.parents import Parent
from quarterjack_worker.handlers.registry import job, new_job

__all__ = [
    "Cancel",
    "ClaimLost",
    "Context",
    "DefaultSchedule",
    "Discard",
    "JobTypeInvalid",
    "Parent",
    "Snooze",
    "job",
    "middleware",
    "new_job",
]
