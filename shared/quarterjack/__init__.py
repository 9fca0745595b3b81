"""The database contract that scheduler, workers and admin share, and the API that enqueues jobs and follows them."""

from quarterjack.client import enqueue, enqueue_many
from quarterjack.database import Address, Database, Pool, connect, from_environment, open_pool
from quarterjack.errors import (
    JobInvalid,
    JobUnknown,
    QuarterjackError,
    SchemaOutdated,
    SchemaUnknown,
    SettingInvalid,
)
from quarterjack.flows import Batch, Workflow, enqueue_batch
from quarterjack.jobs import cancel_jobs, find_job, retry_jobs, wait_for_job
from quarterjack.model import Enqueued, Job, JobState, JobType, Schedule
from quarterjack.new_job import NewJob
from quarterjack.unique import Unique

__version__ = "0.1.0"

__all__ = [
    "Address",
    "Batch",
    "Database",
    "Enqueued",
    "Job",
    "JobInvalid",
    "JobState",
    "JobType",
    "JobUnknown",
    "NewJob",
    "Pool",
    "QuarterjackError",
    "Schedule",
    "SchemaOutdated",
    "SchemaUnknown",
    "SettingInvalid",
    "Unique",
    "Workflow",
    "cancel_jobs",
    "connect",
    "enqueue",
    "enqueue_batch",
    "enqueue_many",
    "find_job",
    "from_environment",
    "open_pool",
    "retry_jobs",
    "wait_for_job",
]
