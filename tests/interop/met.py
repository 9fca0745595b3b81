"""Met, Oban Web's collector, as far as a message can harm it: recorded from the real one (Met 1.3, Oban 2.18 to 2.23).

What it raises here took a page down there, or made the collector forget everything.
"""

import base64
import binascii
import gzip
import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

STATES = {
    *("available", "suspended", "scheduled", "executing"),
    *("retryable", "completed", "discarded", "cancelled"),
}
ATOMS = {"action", "queue", "ident", "limit", "paused", "node", "local_only", "job_id"}
"""The keys of a signal that every Erlang VM with Oban knows; another one crashes its producers."""
RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
LONGEST_PAYLOAD = 7_999


class Harmed(AssertionError):
    """The message is one that harms an Oban."""


def read(payload: str) -> dict[str, Any]:
    """Read a payload as Oban for Elixir up to 2.20 and oban-py do; the newer ones read this and more."""
    if len(payload.encode()) > LONGEST_PAYLOAD:
        raise Harmed(f"Postgres refuses {len(payload)} bytes")
    try:
        text = (
            payload
            if payload.startswith("{")
            else gzip.decompress(base64.b64decode(payload, validate=True))
        )
        message = json.loads(text, parse_constant=_no_constant)
    except (ValueError, binascii.Error, OSError) as error:
        raise Harmed(f"no Oban decodes {payload[:60]!r}") from error
    if not isinstance(message, dict):
        raise Harmed(f"{payload[:60]!r} is no object")
    return message


class Met:
    """Keeps what it hears by the keys of the real one."""

    def __init__(self) -> None:
        self.checks: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.crontabs: dict[tuple[str, str], list[list[Any]]] = {}
        self.metrics: list[dict[str, Any]] = []

    def hear(self, channel: str, payload: str) -> None:
        """Take a payload on a channel, named without its schema."""
        message = read(payload)
        if channel == "oban_signal" and not set(message) <= ATOMS:
            raise Harmed(f"unknown keys in the signal {message}")
        if channel == "oban_signal":
            _be(int, message.get("limit", 1), message.get("job_id", 1))
        if channel == "oban_insert" and not isinstance(message.get("queue"), str):
            raise Harmed(f"no queue in {message}")
        if channel == "oban_gossip":
            for check in message["checks"]:
                self._check(check)
        elif channel == "oban_cronitor":
            self._crontab(message)
        elif channel == "oban_metrics":
            self._metrics(message)

    def crontab(self) -> list[list[Any]]:
        """Give what the page of crons shows."""
        return [entry for entries in self.crontabs.values() for entry in entries]

    def counts(self) -> dict[tuple[str, str], int]:
        """Give the newest count of each state and queue."""
        return {
            (each["state"], each["queue"]): each["value"]["data"][0]
            for each in self.metrics
            if each["series"] == "full_count"
        }

    def _check(self, check: dict[str, Any]) -> None:
        UUID(check["uuid"])
        _be(str, check["node"], check["name"], check["queue"])
        _be(bool, check["paused"])
        _be(int, check["local_limit"], *check["running"])
        if datetime.fromisoformat(check["started_at"]).tzinfo is None:
            raise Harmed("started_at has no offset")
        self.checks[check["node"], check["name"], check["queue"]] = check

    def _crontab(self, message: dict[str, Any]) -> None:
        _be(str, message["name"], message["node"])
        for entry in message["crontab"]:
            expression, worker, options = entry
            _be(str, worker)
            _be(dict, options)
            parse_as_elixir(expression)
        self.crontabs[message["node"], message["name"]] = message["crontab"]

    def _metrics(self, message: dict[str, Any]) -> None:
        _be(str, message["name"], message["node"])
        _be(int, message["time"])
        for element in message["metrics"]:
            if element["state"] not in STATES:
                raise Harmed(f"unknown state {element['state']!r}")
            data = element["value"]["data"]
            if element["series"] in ("exec_count", "full_count"):
                _be(int, *data)
            else:
                _be(int, element["value"]["size"], *map(int, data), *data.values())
        self.metrics += [{**element, "node": message["node"]} for element in message["metrics"]]


def parse_as_elixir(expression: str) -> list[set[int]]:
    """Read an expression as Oban for Elixir does: the numbers of each field."""
    parts = expression.split()
    if len(parts) != len(RANGES):
        raise Harmed(f"{expression!r} has {len(parts)} fields")
    fields = [set(_numbers(part, *limits)) for part, limits in zip(parts, RANGES, strict=True)]
    for field, (low, high) in zip(fields, RANGES, strict=True):
        if not field <= set(range(low, high + 1)):
            raise Harmed(f"{expression!r} is out of range")
    return fields


def _numbers(field: str, low: int, high: int) -> Iterable[int]:
    for part in field.split(","):
        if part == "*":
            yield from range(low, high + 1)
        elif match := re.fullmatch(r"\*/([1-9]\d?)", part):
            yield from range(low, high + 1, int(match[1]))
        elif match := re.fullmatch(r"(\d+)-(\d+)", part):
            yield from range(int(match[1]), int(match[2]) + 1)
        elif part.isdigit():
            yield int(part)
        else:
            raise Harmed(f"Elixir cannot read {part!r}")


def _be(type_: type, *values: object) -> None:
    for value in values:
        if not isinstance(value, type_) or (type_ is int and isinstance(value, bool)):
            raise Harmed(f"{value!r:.60} is no {type_.__name__}")


def _no_constant(name: str) -> float:
    raise Harmed(f"{name} is no JSON")
