"""The notification channels, and what a payload says.

A channel is `<schema>.<name>`; a payload is one plain JSON object, readable by every Oban. Messages
are hints: each receiver also looks for itself.

A message of 7 kB or more is packed as base64 of gzip, which every Oban reads too; `Z:` before it only the newest.

| channel        | payload                                   | rung by                         |
| oban_insert    | {"queue": q}                              | whoever inserts available jobs  |
| oban_signal    | {"action": ..., "queue": q, "ident": i}   | whoever steers queues           |
| qj_queues      | the signal that follows           | who keeps it in qj_queues first |
| qj_schedules   | {"id": n, "version": v}                   | an edit (trigger), a backfill   |
| qj_due         | {}                                        | inserts due within a second     |
| qj_ended       | {}                                        | a look at a job that others wait for |
| qj_scheduler   | {"action": "resigned"|"elected"|"applied"}| the leader                      |
| oban_gossip, oban_metrics, oban_cronitor: see `oban_web`                                     |
"""

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any

INSERT = "oban_insert"
SIGNAL = "oban_signal"
QUEUES = "qj_queues"
SCHEDULES = "qj_schedules"
DUE = "qj_due"
ENDED = "qj_ended"
SCHEDULER = "qj_scheduler"
GOSSIP = "oban_gossip"
METRICS = "oban_metrics"
CRONITOR = "oban_cronitor"
LONGEST = 1_000_000
LONGEST_PLAIN, LONGEST_PAYLOAD = 7_000, 7_900
GZIP = 31


def channel(schema: str, name: str) -> str:
    """Give the full name to LISTEN on."""
    return f"{schema}.{name}"


def decode(payload: str) -> dict[str, Any] | None:
    """Read a payload, plain or packed as other Obans do; None for whatever is not a JSON object."""
    try:
        text = payload if payload.startswith("{") else _unpack(payload.removeprefix("Z:"))
        message = json.loads(text)
    except (ValueError, RecursionError, binascii.Error, zlib.error):
        return None
    return message if isinstance(message, dict) else None


def encode(message: Mapping[str, Any]) -> str:
    """Write a payload for every Oban; Postgres takes it if it is no longer than LONGEST_PAYLOAD."""
    text = json.dumps(message, separators=(",", ":"))
    if len(text) < LONGEST_PLAIN:
        return text
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode()


def split(message: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    """Give messages that can be sent and share the list under `key`; an item too long by itself is left out."""
    if len(encode(message)) <= LONGEST_PAYLOAD:
        return [message]
    items = message[key]
    half = len(items) // 2
    parts = (items[:half], items[half:]) if half else ()
    return [each for part in parts for each in split({**message, key: part}, key)]


def _unpack(packed: str) -> bytes:
    """Undo base64 of gzip, up to LONGEST bytes."""
    return zlib.decompressobj(GZIP).decompress(base64.b64decode(packed, validate=True), LONGEST)
