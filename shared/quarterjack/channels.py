"""The notification channels, and what a payload says.

A channel is `<schema>.<name>`; a payload is one plain JSON object, readable by every Oban. Messages
are hints: each receiver also looks for itself.

| channel        | payload                                   | rung by                         |
| oban_insert    | {"queue": q}                              | whoever inserts available jobs  |
| oban_signal    | {"action": ..., "queue": q, "ident": i}   | whoever steers queues           |
| qj_schedules   | {"id": n, "version": v}                   | an edit of a schedule (trigger) |
| qj_scheduler   | {"action": "resigned"|"elected"|"applied"}| the leader                      |
"""

import json
from typing import Any

INSERT = "oban_insert"
SIGNAL = "oban_signal"
SCHEDULES = "qj_schedules"
SCHEDULER = "qj_scheduler"


def channel(schema: str, name: str) -> str:
    """Give the full name to LISTEN on."""
    return f"{schema}.{name}"


def decode(payload: str) -> dict[str, Any] | None:
    """Read a payload; None for whatever is not a plain JSON object."""
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
