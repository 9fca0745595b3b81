"""What an admin may send: each form is checked once, here, and every field says what is wrong with it."""

import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal

import jsonschema
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
)
from referencing.exceptions import Unresolvable

from quarterjack import cron
from quarterjack.client import encode_object
from quarterjack.model import JobType, Schedule
from quarterjack_admin.redaction import redact, restore

LABELS = {
    "name": "Name",
    "worker": "Job",
    "cron": "Cron",
    "timezone": "Time zone",
    "args": "Arguments",
    "queue": "Queue",
    "priority": "Priority",
    "max_attempts": "Attempts",
    "tags": "Tags",
    "catchup_hours": "Catch-up window",
    "catchup_limit": "Catch-up limit",
    "timeout_minutes": "Timeout",
    "max_failures": "Pause after failures",
    "expected_minutes": "Expected within",
    "description": "Description",
    "reason": "Reason",
}


def _read_args(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        read = json.loads(value or "{}", object_pairs_hook=_without_repeats)
        if not isinstance(read, dict):
            raise ValueError('give an object, as in {"region": "eu"}')
        encode_object("args", read)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"not JSON: {error.msg} in {where}") from error
    return read


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


Minutes = Annotated[
    Annotated[float, Field(gt=0, le=525_600, allow_inf_nan=False)] | None,
    BeforeValidator(_blank_is_none),
]
Count = Annotated[Annotated[int, Field(ge=1, le=1000)] | None, BeforeValidator(_blank_is_none)]
Args = Annotated[dict[str, Any], BeforeValidator(_read_args)]
ARGS: TypeAdapter[dict[str, Any]] = TypeAdapter(Args)


class ScheduleForm(BaseModel):
    """An edit of a schedule, in the units of the form."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    cron: Annotated[str, Field(min_length=1, max_length=300)]
    timezone: Annotated[str, Field(min_length=1, max_length=100)]
    dst: Literal["once", "skip", "both"]
    args: Args
    queue: Annotated[str, Field(min_length=1, max_length=127)]
    priority: Annotated[int, Field(ge=0, le=9)]
    max_attempts: Annotated[int, Field(ge=1, le=1000)]
    tags: list[Annotated[str, Field(min_length=1, max_length=255)]]
    catchup: Literal["skip", "last", "all"]
    catchup_hours: Annotated[float, Field(gt=0, le=87_600, allow_inf_nan=False)]
    catchup_limit: Annotated[int, Field(ge=1, le=100_000)]
    overlap: Literal["allow", "skip", "one_pending", "cancel_previous"]
    timeout_minutes: Minutes
    max_failures: Count
    expected_minutes: Minutes
    description: Annotated[str, Field(max_length=2_000)]

    @field_validator("tags", mode="before")
    @classmethod
    def _read_tags(cls, value: object) -> object:
        if isinstance(value, str):
            parts = [part.strip().lower() for part in value.split(",")]
            return list(dict.fromkeys(part for part in parts if part))
        return value

    @field_validator("timezone")
    @classmethod
    def _check_zone(cls, value: str) -> str:
        cron.zone(value)
        return value

    @field_validator("cron")
    @classmethod
    def _check_cron(cls, value: str) -> str:
        cron.read(value, seed="any")
        return value

    def columns(self) -> dict[str, Any]:
        """Give the values as the table holds them."""
        values = self.model_dump(exclude={"catchup_hours", "timeout_minutes", "expected_minutes"})
        return values | {
            "catchup_window": timedelta(hours=self.catchup_hours),
            "timeout": _minutes(self.timeout_minutes),
            "expected_within": _minutes(self.expected_minutes),
        }


def _minutes(number: float | None) -> timedelta | None:
    return None if number is None else timedelta(minutes=number)


def _in_minutes(span: timedelta | None) -> str:
    return "" if span is None else f"{span.total_seconds() / 60:g}"


def fields_of(schedule: Schedule, job_type: JobType | None) -> dict[str, str]:
    """Give a schedule as the texts of its form; secrets in its args are hidden."""
    return {
        "cron": schedule.cron,
        "timezone": schedule.timezone,
        "dst": schedule.dst,
        "args": args_text(schedule.args, job_type),
        "queue": schedule.queue,
        "priority": str(schedule.priority),
        "max_attempts": str(schedule.max_attempts),
        "tags": ", ".join(schedule.tags),
        "catchup": schedule.catchup,
        "catchup_hours": f"{schedule.catchup_window.total_seconds() / 3600:g}",
        "catchup_limit": str(schedule.catchup_limit),
        "overlap": schedule.overlap,
        "timeout_minutes": _in_minutes(schedule.timeout),
        "max_failures": str(schedule.max_failures or ""),
        "expected_minutes": _in_minutes(schedule.expected_within),
        "description": schedule.description,
    }


def fields_of_version(definition: Mapping[str, Any], job_type: JobType | None) -> dict[str, str]:
    """Give what a stored version says, as far as the form knows it."""
    texts = {
        name: str(value)
        for name, value in definition.items()
        if name in ScheduleForm.model_fields and isinstance(value, str | int)
    }
    if isinstance(args := definition.get("args"), dict):
        texts["args"] = args_text(args, job_type)
    if isinstance(tags := definition.get("tags"), list):
        texts["tags"] = ", ".join(map(str, tags))
    for name in ("catchup_hours", "timeout_minutes", "expected_minutes"):
        number = definition.get(name)
        texts[name] = f"{number:g}" if isinstance(number, int | float) else ""
    return texts | {"max_failures": str(definition.get("max_failures") or "")}


def args_text(args: Mapping[str, Any], job_type: JobType | None) -> str:
    """Give args as the text of a form, with secrets hidden."""
    shown = redact(dict(args), job_type.redacted if job_type else ())
    return json.dumps(shown, indent=2, ensure_ascii=False)


def defaults(job_type: JobType | None) -> dict[str, str]:
    """Give the form of a schedule that does not exist yet."""
    return {
        "cron": "0 * * * *",
        "timezone": "Etc/UTC",
        "dst": "once",
        "args": "{}",
        "queue": job_type.queue if job_type else "default",
        "priority": str(job_type.priority if job_type else 0),
        "max_attempts": str(job_type.max_attempts if job_type else 20),
        "tags": ", ".join(job_type.tags) if job_type else "",
        "catchup": "last",
        "catchup_hours": "24",
        "catchup_limit": "100",
        "overlap": "skip",
        "timeout_minutes": "",
        "max_failures": "",
        "expected_minutes": "",
        "description": job_type.description.partition("\n")[0] if job_type else "",
    }


def read(
    given: Mapping[str, str], job_type: JobType | None, stored_args: Mapping[str, Any]
) -> tuple[ScheduleForm | None, dict[str, str]]:
    """Check a form: the values, or what is wrong by field; hidden args are those that are stored."""
    try:
        form = ScheduleForm.model_validate(dict(given))
    except ValidationError as error:
        return None, {
            str(problem["loc"][0]): _plain(problem["msg"])
            for problem in reversed(error.errors(include_url=False, include_context=False))
        }
    form.args = restore(form.args, stored_args)
    if job_type is not None and (problem := _misfit(form.args, job_type.args_schema)):
        return None, {"args": problem}
    return form, {}


def read_args(
    text: str, job_type: JobType | None, stored: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Check the args of one job: the object, and what is wrong with it; hidden ones are those stored."""
    try:
        args = restore(ARGS.validate_python(text), stored)
    except ValidationError as error:
        return {}, _plain(error.errors(include_url=False, include_context=False)[0]["msg"])
    return args, _misfit(args, job_type.args_schema) if job_type else None


def properties_of(job_type: JobType | None) -> dict[str, Any]:
    """Give the args that a job type describes, by name, to be shown beside the field."""
    schema = job_type.args_schema if job_type else {}
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    properties = schema.get("$defs", {}).get(name, schema).get("properties")
    return properties if isinstance(properties, dict) else {}


def _misfit(args: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    """Say what the job type would not take; a schema that is none of ours is no obstacle."""
    try:
        validator = jsonschema.Draft202012Validator(dict(schema))
        problem = jsonschema.exceptions.best_match(validator.iter_errors(dict(args)))
    except (jsonschema.SchemaError, Unresolvable):
        return None
    if problem is None:
        return None
    where = ".".join(map(str, problem.absolute_path))
    return f"{where}: {problem.message}"[:500] if where else problem.message[:500]


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ")


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a key is given twice")
    return read
