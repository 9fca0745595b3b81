"""The database contract that scheduler, workers and admin share, and the API that enqueues jobs."""

from quarterjack.client import enqueue, enqueue_many
from quarterjack.database import Address, Database, Pool, connect, from_environment, open_pool
from quarterjack.errors import (
    JobInvalid,
    QuarterjackError,
    SchemaOutdated,
    SchemaUnknown,
    SettingInvalid,
)
from quarterjack.flows import Batch, Workflow, enqueue_batch
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
    "NewJob",
    "Pool",
    "QuarterjackError",
    "Schedule",
    "SchemaOutdated",
    "SchemaUnknown",
    "SettingInvalid",
    "Unique",
    "Workflow",
    "connect",
    "enqueue",
    "enqueue_batch",
    "enqueue_many",
    "from_environment",
    "open_pool",
]
