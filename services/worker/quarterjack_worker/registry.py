"""The job types of this process: what `job` has decorated in the modules that were imported."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, TypeVar, get_type_hints

from pydantic import PydanticUserError, TypeAdapter

from quarterjack import cron
from quarterjack.client import NewJob
from quarterjack.errors import JobInvalid, QuarterjackError
from quarterjack.queries.catalogue import Registration
from quarterjack.unique import Unique

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,126}")
Handler = TypeVar("Handler", bound=Callable[..., Any])


class JobTypeInvalid(QuarterjackError):
    """A decorated function cannot be run as a job; the message says what to change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultSchedule:
    """A schedule that comes with a job type: made once if its name is free, then the admins' own."""

    name: str
    cron: str
    timezone: str = "Etc/UTC"
    catchup: str = "last"
    overlap: str = "skip"

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise JobTypeInvalid(
                f"a schedule's name is {self.name!r:.60}: use at most 127 of A-Z a-z 0-9 _ . : - "
                "and begin with a letter or digit"
            )
        cron.read(self.cron, self.name)
        cron.zone(self.timezone)
        if self.catchup not in ("skip", "last", "all"):
            raise JobTypeInvalid(f"catchup is {self.catchup!r}: choose skip, last or all")
        if self.overlap not in ("allow", "skip"):
            raise JobTypeInvalid(f"overlap is {self.overlap!r}: choose allow or skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobType:
    """A handler and how to call it: with nothing, with args, or with args and context."""

    name: str
    handler: Callable[..., Any]
    is_async: bool
    parameters: int
    args: TypeAdapter[Any]
    queue: str
    max_attempts: int
    priority: int
    tags: tuple[str, ...]
    timeout: timedelta | None
    unique: Unique | None
    schedule: DefaultSchedule | None
    redacted: tuple[str, ...]

    def registration(self) -> Registration:
        """Describe it for the catalogue."""
        return Registration(
            worker=self.name,
            description=inspect.getdoc(self.handler) or "",
            args_schema=self.args.json_schema(),
            queue=self.queue,
            priority=self.priority,
            max_attempts=self.max_attempts,
            tags=list(self.tags),
            timeout=self.timeout,
            uniqueness=self.unique.to_json() if self.unique else None,
            schedule=asdict(self.schedule) if self.schedule else None,
            redacted=list(self.redacted),
        )


REGISTRY: dict[str, JobType] = {}


def job(
    name: str,
    *,
    queue: str = "default",
    max_attempts: int = 20,
    priority: int = 0,
    tags: Sequence[str] = (),
    timeout: timedelta | None = None,
    unique: Unique | None = None,
    schedule: DefaultSchedule | None = None,
    redacted: Sequence[str] = (),
) -> Callable[[Handler], Handler]:
    """Register the decorated function as the handler of jobs whose worker is `name`.

    The function stays callable as it is. Its docstring is the description; the annotation of its first
    parameter is the type of the args; `redacted` names args that no page may show. Raises JobTypeInvalid.
    """

    def register(handler: Handler) -> Handler:
        REGISTRY[name] = _job_type(
            name,
            handler,
            queue=queue,
            max_attempts=max_attempts,
            priority=priority,
            tags=tuple(tags),
            timeout=timeout,
            unique=unique,
            schedule=schedule,
            redacted=tuple(redacted),
        )
        return handler

    return register


def _job_type(name: str, handler: Callable[..., Any], **options: Any) -> JobType:
    where = f"job {name!r} ({handler.__module__}.{handler.__qualname__})"
    other = REGISTRY.get(name)
    if other and (other.handler.__module__, other.handler.__qualname__) != (
        handler.__module__,
        handler.__qualname__,
    ):
        taken = f"{other.handler.__module__}.{other.handler.__qualname__}"
        raise JobTypeInvalid(f"{where}: {taken} has this name already; choose another")
    try:
        NewJob(
            worker=name,
            queue=options["queue"],
            max_attempts=options["max_attempts"],
            priority=options["priority"],
            tags=options["tags"],
        )
    except JobInvalid as error:
        raise JobTypeInvalid(f"{where}: {error}") from error
    if options["timeout"] is not None and options["timeout"] <= timedelta(0):
        raise JobTypeInvalid(f"{where}: its timeout is not positive; leave it out for none")
    if inspect.isgeneratorfunction(handler) or inspect.isasyncgenfunction(handler):
        raise JobTypeInvalid(f"{where}: it yields, so calling it would run nothing; return instead")
    parameters = list(inspect.signature(handler).parameters.values())
    if len(parameters) > 2 or any(
        p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters
    ):
        raise JobTypeInvalid(f"{where}: its parameters must be (), (args) or (args, context)")
    return JobType(
        name=name,
        handler=handler,
        is_async=inspect.iscoroutinefunction(handler),
        parameters=len(parameters),
        args=_args_type(where, handler, parameters),
        **options,
    )


def _args_type(
    where: str, handler: Callable[..., Any], parameters: Sequence[inspect.Parameter]
) -> TypeAdapter[Any]:
    annotation: Any = dict[str, Any]
    try:
        if parameters:
            annotation = get_type_hints(handler).get(parameters[0].name, annotation)
        if annotation in (dict, Mapping, Any):
            annotation = dict[str, Any]
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        schema = adapter.json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        raise JobTypeInvalid(f"{where}: its args cannot be described: {error}") from error
    target = schema.get("$defs", {}).get(schema.get("$ref", "").rpartition("/")[2], schema)
    if target.get("type", "object") != "object":
        raise JobTypeInvalid(
            f"{where}: its args are of type {target['type']}; use a dataclass, TypedDict, model or dict"
        )
    return adapter
