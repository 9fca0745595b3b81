"""The job types of this process: what `job` has decorated in the modules that were imported."""

import builtins
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar, Unpack

from pydantic import ValidationError

from quarterjack.encoding import ENCODER
from quarterjack.errors import JobInvalid, SettingInvalid
from quarterjack.new_job import NewJob, Options
from quarterjack.unique import Unique, are_texts
from quarterjack_worker.handlers import backoff as waits
from quarterjack_worker.handlers.backoff import Backoff
from quarterjack_worker.handlers.failures import name as said
from quarterjack_worker.handlers.job_types import (
    DefaultSchedule,
    JobType,
    JobTypeInvalid,
    check_names,
    check_needs_none,
    problems,
    taken_by,
)
from quarterjack_worker.handlers.round_trip import lost

Handler = TypeVar("Handler", bound=Callable[..., Any])

REGISTRY: dict[str, JobType] = {}
MASK = "*" * 10
"""What pydantic writes of a SecretStr that is not empty."""


def job(
    name: str,
    *,
    process: bool = False,
    queue: str = "default",
    max_attempts: int = 20,
    priority: int = 0,
    tags: Sequence[str] = (),
    timeout: timedelta | None = None,
    backoff: Backoff | None = None,
    unique: Unique | None = None,
    schedule: DefaultSchedule | None = None,
    redacted: Sequence[str] = (),
    recorded: bool = False,
) -> Callable[[Handler], Handler]:
    """Register the decorated function as the handler of jobs whose worker is `name`.

    The function stays callable as it is. Its docstring is the description; the annotation of its first
    parameter is the type of the args, unless that is Context; `redacted` names args that no page may show.
    `process` runs it in a process of its own, for what computes or may crash; `recorded` keeps what the
    function returns in the job's meta, as `result`. Raises JobTypeInvalid.
    """
    if callable(name):
        raise JobTypeInvalid(f'{name!r:.80} has no name as a job: write @job("its_name")')

    def register(handler: Handler) -> Handler:
        REGISTRY[name] = _job_type(
            name,
            handler,
            process=process,
            queue=queue,
            max_attempts=max_attempts,
            priority=priority,
            tags=tags,
            timeout=timeout,
            backoff=backoff,
            unique=unique,
            schedule=schedule,
            redacted=redacted,
            recorded=recorded,
        )
        return handler

    return register


def new_job(
    job: str | Callable[..., Any], args: object = None, **options: Unpack[Options]
) -> NewJob:
    """Give a job of a type, by its handler or name, with the defaults of the type; `options` are NewJob's.

    Args may be of the handler's own type; JobInvalid names the fields that do not fit. A name that this
    process does not know is another program's, and has no defaults.
    """
    type = REGISTRY.get(job) if isinstance(job, str) else type_of(job)
    given = {} if args is None else args
    if type is None:
        return NewJob(worker=str(job), args=_object(given), **options)
    plain = _plain(type, given)
    chosen: Options = {
        "queue": type.queue,
        "max_attempts": type.max_attempts,
        "priority": type.priority,
        "tags": type.tags,
        "unique": type.unique,
        **options,
    }
    return NewJob(worker=type.name, args=plain, **chosen)


def type_of(handler: Callable[..., Any]) -> JobType:
    """Give the type of a handler; JobInvalid if it is none."""
    for type in REGISTRY.values():
        if type.handler == handler:  # a bound method is another object each time
            return type
    raise JobInvalid(f"{handler!r:.80} is no job: decorate it with @job, or give a name")


def import_jobs(modules: Sequence[str]) -> None:
    """Import what defines the jobs; SettingInvalid if a module is missing or defines none."""
    for module in modules:
        if not module or module.startswith("."):
            raise SettingInvalid(f"--import {module!r}: give a whole name, such as shop.jobs")
        try:
            importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module}.".startswith(f"{error.name}."):
                raise
            name = module.removesuffix(".py").replace("/", ".")
            better = "run in its folder or install it" if name == module else f"write {name}"
            raise SettingInvalid(f"--import {module}: there is no such module; {better}") from error
    if not REGISTRY:
        raise SettingInvalid(f"--import {' '.join(modules)}: no job is defined there, see `job`")


def _job_type(name: str, handler: Callable[..., Any], **options: Any) -> JobType:
    if isinstance(handler, staticmethod):
        handler = handler.__func__
    if not callable(handler) or not hasattr(handler, "__qualname__") or isinstance(handler, type):
        raise JobTypeInvalid(
            f"job {name!r}: {handler!r:.80} is no function: write def or async def"
        )
    where = f"job {name!r} ({'.'.join(_place(handler))})"
    _refuse_taken(where, name, handler)
    try:
        NewJob(
            worker=name,
            queue=options["queue"],
            max_attempts=options["max_attempts"],
            priority=options["priority"],
            tags=options["tags"],
            unique=options["unique"],
        )
        waits.check(options["backoff"])
    except ValueError as error:
        raise JobTypeInvalid(f"{where}: {error}") from error
    _check(where, **options)
    takes, args = taken_by(where, handler)
    if options["unique"]:
        check_names(where, args, "unique", options["unique"].keys)
    if not options["recorded"]:  # of a result they are redacted as well
        check_names(where, args, "redacted", options["redacted"])
    if options["schedule"]:
        check_needs_none(where, args)
    return JobType(
        name=name,
        handler=handler,
        is_async=inspect.iscoroutinefunction(handler),
        takes=takes,
        args=args,
        **options | {"tags": tuple(options["tags"]), "redacted": tuple(options["redacted"])},
    )


def _place(handler: Callable[..., Any]) -> tuple[str, str]:
    return handler.__module__, handler.__qualname__


def _refuse_taken(where: str, name: str, handler: Callable[..., Any]) -> None:
    """Refuse the name of another handler; the same one may be registered anew."""
    other = REGISTRY.get(name)
    if other is None or _place(other.handler) == _place(handler):
        return
    twice = other.handler.__qualname__ == handler.__qualname__
    better = "choose another" + (", or import its file by one name alone" if twice else "")
    taken = ".".join(_place(other.handler))
    raise JobTypeInvalid(f"{where}: {taken} has this name already; {better}")


def _check(where: str, *, timeout: object, schedule: object, redacted: object, **_: object) -> None:
    """Refuse what only a handler has and cannot be used; letters for the names of args would redact nothing."""
    if timeout is not None and not (
        isinstance(timeout, timedelta) and timedelta(0) < timeout <= waits.LONGEST
    ):
        raise JobTypeInvalid(
            f"{where}: its timeout is {timeout!r:.60}; give a timedelta of up to "
            f"{waits.LONGEST.days} days, or leave it out for none"
        )
    if schedule is not None and not isinstance(schedule, DefaultSchedule):
        raise JobTypeInvalid(f"{where}: its schedule is {schedule!r:.60}; give a DefaultSchedule")
    if not are_texts(redacted):
        raise JobTypeInvalid(f"{where}: redacted is {redacted!r:.60}; give a list of names of args")


def _plain(type: JobType, args: object) -> Mapping[str, Any]:
    """Give args as they are stored, after a look whether the handler will take them."""
    try:
        as_it_is = isinstance(args, Mapping | builtins.type)
        plain = _object(args if as_it_is else _written(type, args))
        taken = type.read(plain)
        if plain is not args and taken != args:
            _check_kept(type, args, plain, taken)
    except ValidationError as error:
        raise JobInvalid(f"args of {type.name}: {problems(error)}") from error
    except JobInvalid:
        raise
    except Exception as error:  # a validator may raise anything
        raise JobInvalid(f"args of {type.name}: {said(error)}") from error
    if plain is args and not _is_json(plain):
        with suppress(ValueError):  # what cannot be written so is refused when it is stored
            written = _written(type, plain)
            if type.read(written) == taken:
                return _object(written)
    return plain


def _check_kept(type: JobType, args: object, plain: object, taken: object) -> None:
    """Refuse args of which the handler would take another value than was given."""
    if MASK in str(plain):
        raise JobInvalid(
            f"args of {type.name}: a secret would be stored as {MASK}: take a str, and name it in `redacted`"
        )
    if loss := lost(args, taken):
        raise JobInvalid(
            f"args of {type.name}: {loss}; a field needs one alias for both ways, no `exclude`, validators and "
            "serializers that keep its value, and a type that names what it holds, such as a union of subclasses"
        )


def _written(type: JobType, args: object) -> Any:
    return type.args.dump_python(args, mode="json", by_alias=True, round_trip=True, warnings=False)


def _is_json(args: Mapping[str, Any]) -> bool:
    """Say if args hold only what JSON knows: a TypedDict may hold instants and the like."""
    try:
        ENCODER.encode(dict(args))
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _object(args: object) -> Mapping[str, Any]:
    if isinstance(args, type):
        raise JobInvalid(f"args are the class {args.__name__}: give {args.__name__}(…)")
    if not isinstance(args, Mapping):
        raise JobInvalid(f"args are a {type(args).__name__}: give an object with text keys")
    return args
