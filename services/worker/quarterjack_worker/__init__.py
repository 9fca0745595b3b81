"""Runs jobs: write them with `job`, run them with `quarterjack-worker --import your.module`."""

from quarterjack_worker.context import Context
from quarterjack_worker.outcomes import Cancel, Discard, Snooze
from quarterjack_worker.registry import DefaultSchedule, JobTypeInvalid, job

__all__ = ["Cancel", "Context", "DefaultSchedule", "Discard", "JobTypeInvalid", "Snooze", "job"]
