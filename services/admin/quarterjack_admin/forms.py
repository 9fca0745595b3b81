"""What an admin may send: each form is checked once, here, and every field says what is wrong with it."""

import json
from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

from quarterjack.args_schema import misfit
from quarterjack.definition import DURATIONS, INSTANTS, LONGEST_REASON, Args, Definition
from quarterjack.model import JobType, Schedule
from quarterjack.redaction import redact, restore

LABELS = {
    "name": "Name",
    "worker": "Job",
    "cron": "Cron",
    "timezone": "Time zone",
    "dst": "DST",
    "jitter": "Jitter",
    "start_at": "Not before",
    "end_at": "Not after",
    "blackouts": "Blackouts",
    "calendars": "Calendars",
    "args": "Arguments",
    "queue": "Queue",
    "priority": "Priority",
    "max_attempts": "Attempts",
    "tags": "Tags",
    "catchup": "Catch-up",
    "catchup_window": "Catch-up window",
    "catchup_limit": "Catch-up limit",
    "overlap": "Overlap",
    "timeout": "Timeout",
    "max_failures": "Pause after failures",
    "expected_within": "Expected within",
    "description": "Description",
    "reason": "Reason",
}


ARGS: TypeAdapter[dict[str, Any]] = TypeAdapter(Args)
LISTS = {"tags": ", ", "blackouts": "\n", "calendars": "\n"}


def fields_of(schedule: Schedule, job_type: JobType | None) -> dict[str, str]:
    """Give a schedule as the texts of its form; secrets in its args are hidden."""
    return texts(Definition.of(schedule), job_type)


def texts(definition: Definition, job_type: JobType | None) -> dict[str, str]:
    """Give a definition as the texts of its form."""
    written = definition.written()
    shown = {name: "" if value is None else str(value) for name, value in written.items()}
    lists = {name: between.join(map(str, written[name])) for name, between in LISTS.items()}
    return shown | lists | {"args": args_text(written["args"], job_type)}


def fields_of_version(stored: Mapping[str, Any], job_type: JobType | None) -> dict[str, str]:
    """Give what a stored version says, as far as the form knows it."""
    known: dict[str, Any] = {
        name: stored[name] for name in Definition.model_fields if stored.get(name) is not None
    }
    for name in DURATIONS:
        if isinstance(seconds := known.get(name), int | float):
            known[name] = timedelta(seconds=seconds)
    for name in INSTANTS:
        if isinstance(at := known.get(name), str):
            known[name] = datetime.fromisoformat(at)
    return texts(Definition.model_construct(**known), job_type)


def args_text(args: Mapping[str, Any], job_type: JobType | None) -> str:
    """Give args as the text of a form, with secrets hidden."""
    shown = redact(dict(args), job_type.redacted if job_type else ())
    return json.dumps(shown, indent=2, ensure_ascii=False)


def defaults(job_type: JobType | None) -> dict[str, str]:
    """Give the form of a schedule that does not exist yet."""
    if job_type is None:
        return texts(Definition(cron="0 * * * *"), None)
    fresh = Definition.model_construct(
        cron="0 * * * *",
        queue=job_type.queue,
        priority=job_type.priority,
        max_attempts=job_type.max_attempts,
        tags=job_type.tags,
        description=job_type.description.partition("\n")[0][:2_000],
    )
    return texts(fresh, job_type)


def read(
    given: Mapping[str, str],
    job_type: JobType | None,
    stored_args: Mapping[str, Any],
    calendars: Collection[str],
) -> tuple[Definition | None, dict[str, str]]:
    """Check a form: the values, or what is wrong by field; hidden args are those that are stored."""
    try:
        form = Definition.model_validate(dict(given))
    except ValidationError as error:
        return None, {
            str(problem["loc"][0]): plain(problem["msg"])
            for problem in reversed(error.errors(include_url=False, include_context=False))
        }
    if gone := [name for name in form.calendars if name not in calendars]:
        return None, {"calendars": f"there is no calendar {gone[0]!r} any more: take it out"}
    form.args = restore(form.args, stored_args)
    if job_type is not None and (problem := misfit(form.args, job_type.args_schema)):
        return None, {"args": problem}
    return form, {}


def read_args(
    text: str, job_type: JobType | None, stored: Mapping[str, Any]
) -> tuple[dict[str, Any], str | None]:
    """Check the args of one job: the object, and what is wrong with it; hidden ones are those stored."""
    try:
        args = restore(ARGS.validate_python(text), stored)
    except ValidationError as error:
        return {}, plain(error.errors(include_url=False, include_context=False)[0]["msg"])
    return args, misfit(args, job_type.args_schema) if job_type else None


def read_reason(given: Mapping[str, object]) -> str:
    """Give why an action is taken; empty if it was not said."""
    return str(given.get("reason", "")).strip()[:LONGEST_REASON]


def properties_of(job_type: JobType | None) -> dict[str, Any]:
    """Give the args that a job type describes, by name, to be shown beside the field."""
    schema = job_type.args_schema if job_type else {}
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    properties = schema.get("$defs", {}).get(name, schema).get("properties")
    return properties if isinstance(properties, dict) else {}


def plain(message: str) -> str:
    """Give what a check says without the words of its library."""
    return message.removeprefix("Value error, ")
