"""Spans are a by-product: what keeps them from being written is said, once."""

import pytest

from quarterjack.telemetry import Telemetry
from tests.conftest import TestDatabase


async def test_that_spans_cannot_be_written_is_said_once(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("QUARTERJACK_TELEMETRY", "on")
    telemetry = Telemetry("scheduler", "n")
    await database.pool.execute("ALTER TABLE otel_traces RENAME TO elsewhere")

    for _ in range(2):
        with telemetry.span("tick", kind="internal"):
            pass
        await telemetry.flush(database.pool)

    [record] = caplog.records
    assert record.getMessage().startswith('could not write spans: relation "otel_traces"')
