"""The notification channels, and what a payload says.

A channel is `<schema>.<name>`; a payload is one plain JSON object, readable by every Oban. Messages
are hints: each receiver also looks for itself.

| channel        | payload                                   | rung by                         |
| oban_insert    | {"queue": q}                              | whoever inserts available jobs  |
| oban_signal    | {"action": ..., "queue": q, "ident": i}   | whoever steers queues           |
| qj_schedules   | {"id": n, "version": v}                   | an edit (trigger), a backfill   |
| qj_due         | {}                                        | inserts due within a second     |
| qj_scheduler   | {"action": "resigned"|"elected"|"applied"}| the leader                      |
"""

import base64
import binascii
import json
import zlib
from typing import Any

INSERT = "oban_insert"
SIGNAL = "oban_signal"
SCHEDULES = "qj_schedules"
DUE = "qj_due"
SCHEDULER = "qj_scheduler"
LONGEST = 1_000_000
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


def _unpack(packed: str) -> bytes:
    """Undo base64 of gzip, up to LONGEST bytes."""
    return zlib.decompressobj(GZIP).decompress(base64.b64decode(packed, validate=True), LONGEST)
