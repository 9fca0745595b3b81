"""Spans, as ServiceRadar's otel_traces holds them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from quarterjack.database import Database

KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
OK, ERROR = 1, 2


@dataclass(slots=True, kw_only=True)
class Span:
    """A piece of work: `error` set means it failed."""

    trace_id: str
    span_id: str
    parent_span_id: str | None
    name: str
    kind: str
    started: int
    ended: int = 0
    error: str | None = None
    attributes: dict[str, str] = field(default_factory=dict)

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"


async def insert(db: Database, service: str, instance: str, spans: Sequence[Span]) -> None:
    """Write ended spans in one statement; a repeated one is left as it is."""
    await db.execute(
        """
        INSERT INTO otel_traces
          ("timestamp", trace_id, span_id, parent_span_id, name, kind, start_time_unix_nano,
           end_time_unix_nano, service_name, service_instance, scope_name, status_code, status_message, attributes)
        SELECT
          to_timestamp(started / 1e9), trace_id, span_id, coalesce(parent_span_id, ''), name, kind, started,
          ended, $1, $2, 'quarterjack', status_code, coalesce(error, ''), attributes
        FROM
          unnest(
            $3::text[], $4::text[], $5::text[], $6::text[], $7::integer[], $8::bigint[], $9::bigint[],
            $10::integer[], $11::text[], $12::text[]
          ) AS s (trace_id, span_id, parent_span_id, name, kind, started, ended, status_code, error, attributes)
        ON CONFLICT DO NOTHING
        """,
        service,
        instance,
        [span.trace_id for span in spans],
        [span.span_id for span in spans],
        [span.parent_span_id for span in spans],
        [span.name for span in spans],
        [KINDS[span.kind] for span in spans],
        [span.started for span in spans],
        [span.ended for span in spans],
        [OK if span.error is None else ERROR for span in spans],
        [span.error for span in spans],
        [json.dumps(span.attributes) for span in spans],
    )


async def prune(db: Database) -> None:
    """Delete this system's own spans that the summaries' window of 7 days has left behind."""
    await db.execute(
        """
        DELETE FROM otel_traces
        WHERE "timestamp" < now() - interval '7 days' AND scope_name = 'quarterjack'
        """
    )
