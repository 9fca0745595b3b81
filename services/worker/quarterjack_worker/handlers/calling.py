"""Call a handler with the args of its job, in whatever thread or process this is."""

import inspect
from contextlib import AsyncContextDecorator, ContextDecorator
from typing import Any

from pydantic import ValidationError

from quarterjack.model import Job
from quarterjack_worker.handlers.context import Context
from quarterjack_worker.handlers.failures import Failed, describe
from quarterjack_worker.handlers.job_types import JobType, problems
from quarterjack_worker.handlers.outcomes import Outcome


def call(type: JobType, context: Context) -> object:
    """Call a `def`; Failed if the args do not fit."""
    result = type.handler(*arguments(type, context))
    check_ran(result)
    return result


def check_ran(result: object) -> None:
    """Raise Failed if a handler returned what has yet to run, as where a decorator hides what it is, or to be made."""
    if result is None:
        return
    if inspect.isawaitable(result):
        raise Failed(
            "TypeError: it returned something to await, and did not await it: "
            "write async def, in its decorators too"
        )
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        raise Failed(
            "TypeError: it returned a generator, of which nothing has run: write no yield in it"
        )
    if isinstance(result, ContextDecorator | AsyncContextDecorator):
        raise Failed(
            "TypeError: it returned a context manager that nobody entered: write no @contextmanager on it"
        )
    if isinstance(result, type) and issubclass(result, Outcome):
        name = result.__name__
        raise Failed(f"TypeError: it returned the class {name}: return {name}(…)")


def arguments(type: JobType, context: Context) -> tuple[Any, ...]:
    """Give what the handler takes of args and context. Failed names fields that do not fit."""
    args = _read_args(type, context.job)
    given: tuple[Any, ...] = (args, context)
    return given[type.takes]


def _read_args(type: JobType, job: Job) -> object:
    if not isinstance(job.args, dict):
        raise Failed(
            f"ArgsInvalid: args are a {_kind(job.args)} that this worker cannot read; "
            "a job's args are a JSON object"
        )
    try:
        return type.read(job.args)
    except ValidationError as error:
        raise Failed(f"ArgsInvalid: {problems(error)}") from error
    except Exception as error:
        raise Failed(f"ArgsInvalid: {describe(error)}") from error


def _kind(value: object) -> str:
    return "null" if value is None else value.__class__.__name__
