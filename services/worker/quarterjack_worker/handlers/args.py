"""The args of a job as its handler takes them."""

from pydantic import ValidationError

from quarterjack.model import Job
from quarterjack_worker.handlers.failures import Failed, describe
from quarterjack_worker.handlers.job_types import JobType, problems


def read_args(type: JobType, job: Job) -> object:
    """Give args of the handler's own type; Failed names the fields that do not fit."""
    if not isinstance(job.args, dict):
        raise Failed(
            f"ArgsInvalid: args are a {_kind(job.args)} that this worker cannot read; "
            "a job's args are a JSON object"
        )
    try:
        return type.args.validate_python(job.args)
    except ValidationError as error:
        raise Failed(f"ArgsInvalid: {problems(error)}") from error
    except Exception as error:
        raise Failed(f"ArgsInvalid: {describe(error)}") from error


def _kind(value: object) -> str:
    return "null" if value is None else value.__class__.__name__
