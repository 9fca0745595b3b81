"""What a job type is: a handler, how to call it, and what its jobs are by default."""

import contextlib
import inspect
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import PydanticUserError, TypeAdapter, ValidationError

from quarterjack import cron
from quarterjack.definition import NAME, NAME_RULE
from quarterjack.errors import QuarterjackError
from quarterjack.queries.catalogue import Registration
from quarterjack.unique import Unique
from quarterjack_worker.handlers.backoff import Backoff


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
            raise JobTypeInvalid(f"a schedule's name is {self.name!r:.60}: {NAME_RULE}")
        cron.read(self.cron, self.name)
        cron.zone(self.timezone)
        if self.catchup not in ("skip", "last", "all"):
            raise JobTypeInvalid(f"catchup is {self.catchup!r}: choose skip, last or all")
        if self.overlap not in ("allow", "skip"):
            raise JobTypeInvalid(f"overlap is {self.overlap!r}: choose allow or skip")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobType:
    """A handler and how to call it: with the part `takes` of (args, context)."""

    name: str
    handler: Callable[..., Any]
    is_async: bool
    process: bool
    takes: slice
    args: TypeAdapter[Any]
    queue: str
    max_attempts: int
    priority: int
    tags: tuple[str, ...]
    timeout: timedelta | None
    backoff: Backoff | None
    unique: Unique | None
    schedule: DefaultSchedule | None
    redacted: tuple[str, ...]
    recorded: bool

    def read(self, args: Mapping[str, Any]) -> object:
        """Give args from JSON as the handler takes them; ValidationError names those that do not fit.

        A strict model takes a text for an instant from JSON alone, which a second look is for.
        """
        try:
            return self.args.validator.validate_python(args)
        except ValidationError as error:
            return self._read_json(args, error)

    def _read_json(self, args: Mapping[str, Any], misfit: ValidationError) -> object:
        """Take args as JSON alone; of what is no JSON the first look knew more."""
        try:
            return self.args.validator.validate_json(json.dumps(args))
        except ValidationError as error:
            unread = error.errors()[0]["type"] == "json_invalid"
            raise misfit if unread else error from None
        except (ValueError, TypeError):
            raise misfit from None

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


def taken_by(where: str, handler: Callable[..., Any]) -> tuple[slice, TypeAdapter[Any]]:
    """Give what it takes of (args, context), and the type of its args; JobTypeInvalid if it cannot be called so."""
    from quarterjack_worker.handlers.context import Context  # which imports this, to enqueue

    if _yields(handler) or (_is_of_contextlib(handler) and _yields(inspect.unwrap(handler))):
        raise JobTypeInvalid(f"{where}: it yields, so calling it would run nothing; return instead")
    parameters, hints = _signature(where, handler)
    first: Any = hints.get(parameters[0].name, dict[str, Any]) if parameters else dict[str, Any]
    if parameters and parameters[0].name in ("self", "cls"):
        raise JobTypeInvalid(
            f"{where}: it is a method, and a job has no object to call it on: write a function"
        )
    alone = Context in (first, *get_args(first))
    longest = 1 if alone else 2
    if len(parameters) > longest or any(
        p.kind not in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters
    ):
        raise JobTypeInvalid(
            f"{where}: its parameters must be (), (args), (args, context) or (context: Context)"
        )
    if alone:
        return slice(1, 2), _args_type(where, dict)
    if len(parameters) == 2 and not _allows(hints.get(parameters[1].name, Context), Context):
        raise JobTypeInvalid(
            f"{where}: what it takes as {parameters[1].name} is its Context: put all else into its args"
        )
    return slice(len(parameters)), _args_type(where, first)


def _yields(function: Callable[..., Any]) -> bool:
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _is_of_contextlib(function: Callable[..., Any]) -> bool:
    """Say if it is what a decorator of contextlib made: other decorators may run a generator to its end."""
    return getattr(function, "__globals__", None) is vars(contextlib)


def _signature(
    where: str, handler: Callable[..., Any]
) -> tuple[list[inspect.Parameter], dict[str, Any]]:
    """Give the parameters and their annotations."""
    try:
        parameters = list(inspect.signature(handler).parameters.values())
        return parameters, get_type_hints(handler, include_extras=True) if parameters else {}
    except NameError as error:
        raise JobTypeInvalid(
            f"{where}: its annotations cannot be read: {error}; define or import it at the top of the "
            "module, not under TYPE_CHECKING"
        ) from error
    except (TypeError, ValueError) as error:
        raise JobTypeInvalid(f"{where}: its args cannot be described: {error}") from error


def _allows(annotation: Any, wanted: type) -> bool:
    """Say if an annotation allows a type; one that is no class, or says nothing of its bases, does."""
    origin = get_origin(annotation)
    if origin in (Union, UnionType):
        return any(_allows(each, wanted) for each in get_args(annotation))
    if origin is Annotated:
        return _allows(get_args(annotation)[0], wanted)
    kind = origin or annotation
    if not isinstance(kind, type) or kind is Any or getattr(kind, "_is_protocol", False):
        return True
    return issubclass(wanted, kind)


def _args_type(where: str, annotation: Any) -> TypeAdapter[Any]:
    """Read the type of the args, which must be an object in JSON."""
    if annotation in (dict, Mapping, Any):
        annotation = dict[str, Any]
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        schema = adapter.json_schema()
    except (PydanticUserError, NameError, TypeError) as error:
        raise JobTypeInvalid(f"{where}: its args cannot be described: {error}") from error
    kind = _target(schema).get("type", "object")
    if kind != "object":
        raise JobTypeInvalid(
            f"{where}: its args are of type {kind}; use a dataclass, TypedDict, model or dict"
        )
    return adapter


def _target(schema: dict[str, Any]) -> dict[str, Any]:
    """Follow the reference that a schema may be."""
    found: dict[str, Any] = schema.get("$defs", {}).get(
        schema.get("$ref", "").rpartition("/")[2], schema
    )
    return found


def check_names(where: str, args: TypeAdapter[Any], what: str, names: Collection[str]) -> None:
    """Refuse names that no arg has, of any that its type may be given or be written as: they would mean nothing."""
    known: set[str] = set()
    modes: tuple[Literal["validation", "serialization"], ...] = ("validation", "serialization")
    for mode in modes if names else ():
        with contextlib.suppress(PydanticUserError):
            schema = _target(args.json_schema(mode=mode))
            if "properties" not in schema or schema.get("additionalProperties"):
                return
            known |= schema["properties"].keys()
    if unknown := [name for name in names if name.partition(".")[0] not in known]:
        raise JobTypeInvalid(
            f"{where}: {what} names {unknown[0]!r:.60}, which is none of its args: {', '.join(sorted(known))}"
        )


def check_needs_none(where: str, args: TypeAdapter[Any]) -> None:
    """Refuse a default schedule, which gives no args, for a job that cannot do without."""
    if needed := _target(args.json_schema()).get("required"):
        raise JobTypeInvalid(
            f"{where}: its schedule gives no args, and it needs {', '.join(needed)}: give them defaults, or make the "
            "schedule in a file or in the admin"
        )


def problems(error: ValidationError) -> str:
    """Name each field that does not fit, and why; never its value."""
    lines = [
        f"{'.'.join(map(str, problem['loc'])) or 'args'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_input=False)
    ]
    return "; ".join(lines[:20])
