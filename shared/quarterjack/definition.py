"""What a person may say of a schedule, checked once, for the form, for files and for code alike.

The fields are the columns of qj_schedules that define it. Lengths of time are texts such as `1h 30m`; an instant
without an offset is meant in the schedule's time zone.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator

from quarterjack import cron, durations
from quarterjack.cron.blackouts import parse_window
from quarterjack.cron.timing import LONGEST_JITTER, MOST_CALENDARS, MOST_WINDOWS
from quarterjack.cron.zones import zone_names
from quarterjack.encoding import encode_object
from quarterjack.model import Schedule

TIMING = (
    *("cron", "timezone", "dst", "jitter"),
    *("start_at", "end_at", "blackouts", "calendars"),
)
"""The fields that decide when it runs."""
DURATIONS = ("jitter", "catchup_window", "timeout", "expected_within")
INSTANTS = ("start_at", "end_at")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,126}")
NAME_RULE = "use letters, digits, and _ . : - after the first; at most 127"
LONGEST_REASON = 500
ZERO = timedelta(0)
TEN_YEARS = timedelta(days=3_650)


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


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read = dict(pairs)
    if len(read) != len(pairs):
        raise ValueError("a key is given twice")
    return read


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _read_duration(value: object) -> object:
    return durations.read(value) if isinstance(value, str) else value


def _split_lines(value: object) -> object:
    lines = value.splitlines() if isinstance(value, str) else value
    return [line.strip() for line in lines if line.strip()] if isinstance(lines, list) else lines


Args = Annotated[dict[str, Any], BeforeValidator(_read_args)]
Duration = Annotated[timedelta, Field(gt=ZERO, le=TEN_YEARS), BeforeValidator(_read_duration)]
Timeout = Annotated[
    timedelta, Field(gt=ZERO, le=timedelta(days=365)), BeforeValidator(_read_duration)
]
Jitter = Annotated[
    timedelta,
    Field(ge=ZERO, le=LONGEST_JITTER),
    BeforeValidator(_read_duration),
    BeforeValidator(lambda value: ZERO if _blank_is_none(value) is None else value),
]
Count = Annotated[int, Field(ge=1, le=1000)]
Lines = Annotated[list[str], BeforeValidator(_split_lines)]
Blank = BeforeValidator(_blank_is_none)


class Definition(BaseModel):
    """A schedule as it is asked for, without name and worker; the defaults are the table's."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    cron: Annotated[str, Field(min_length=1, max_length=300)]
    timezone: Annotated[str, Field(min_length=1, max_length=100)] = "Etc/UTC"
    dst: Literal["once", "skip", "both"] = "once"
    jitter: Jitter = ZERO
    start_at: Annotated[datetime | None, Blank] = None
    end_at: Annotated[datetime | None, Blank] = None
    blackouts: Annotated[Lines, Field(max_length=MOST_WINDOWS)] = []
    calendars: Annotated[Lines, Field(max_length=MOST_CALENDARS)] = []
    args: Args = {}
    queue: Annotated[str, Field(min_length=1, max_length=127)] = "default"
    priority: Annotated[int, Field(ge=0, le=9)] = 0
    max_attempts: Annotated[int, Field(ge=1, le=1000)] = 20
    tags: list[Annotated[str, Field(min_length=1, max_length=255)]] = []
    catchup: Literal["skip", "last", "all"] = "last"
    catchup_window: Duration = timedelta(days=1)
    catchup_limit: Annotated[int, Field(ge=1, le=100_000)] = 100
    overlap: Literal["allow", "skip", "one_pending", "cancel_previous"] = "skip"
    timeout: Annotated[Timeout | None, Blank] = None
    max_failures: Annotated[Count | None, Blank] = None
    expected_within: Annotated[Duration | None, Blank] = None
    description: Annotated[str, Field(max_length=2_000)] = ""

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

    @field_validator("blackouts")
    @classmethod
    def _check_windows(cls, value: list[str]) -> list[str]:
        return [parse_window(text).text for text in value]

    @field_validator("start_at", "end_at")
    @classmethod
    def _place(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        if value is None or value.tzinfo is not None:
            return value
        return value.replace(tzinfo=_zone(info.data)).astimezone(UTC)

    @field_validator("end_at")
    @classmethod
    def _check_end(cls, value: datetime | None, info: ValidationInfo) -> datetime | None:
        given = info.data
        if {"cron", "timezone", "dst", "jitter", "start_at"} <= given.keys():
            cron.Timing(
                name="any",
                expression=given["cron"],
                zone=given["timezone"],
                dst=given["dst"],
                jitter=given["jitter"],
                start_at=given["start_at"],
                end_at=value,
            )
        return value

    def named(self, name: str) -> "Named":
        """Add the name, which decides jitter and `H`."""
        return Named.model_construct(name=name, **dict(self))

    @classmethod
    def of(cls, schedule: Schedule) -> Self:
        """Give what a stored schedule says, unchecked: another program may have written it."""
        return cls.model_construct(**{name: getattr(schedule, name) for name in cls.model_fields})

    def columns(self) -> dict[str, Any]:
        """Give the values as the table holds them."""
        return dict(self)

    def written(self) -> dict[str, Any]:
        """Give the values as a person would write them: texts, numbers, lists and the args."""
        return {name: self._write(value) for name, value in self.columns().items()}

    def _write(self, value: Any) -> Any:
        if isinstance(value, timedelta):
            return durations.write(value)
        return _write_instant(value, self.timezone) if isinstance(value, datetime) else value


class Named(Definition):
    """A definition with the name of its schedule; `cron.Timing.of` takes it."""

    name: str


def _zone(given: Mapping[str, Any]) -> ZoneInfo:
    return cron.zone(given.get("timezone", "Etc/UTC"))


def _write_instant(at: datetime, zone_name: str) -> str:
    """Give the wall time in the zone; with its offset where the wall time alone would be read otherwise."""
    zone = cron.zone(zone_name if zone_name in zone_names() else "Etc/UTC")
    wall = at.astimezone(zone)
    plain = wall.replace(tzinfo=None, fold=0)
    if plain.replace(tzinfo=zone).astimezone(UTC) != at:
        return wall.isoformat(sep=" ")
    return plain.isoformat(sep=" ").removesuffix(":00")
