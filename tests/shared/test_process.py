"""What every service logs alike."""

import asyncio
import gc
import logging
import subprocess
import sys
from functools import partial

import pytest

from quarterjack.process import JsonFormatter, TextFormatter, in_one_line, is_awaited
from tests.conftest import TestDatabase
from tests.processes import cluster, free_port
from tests.waiting import until

FORMS = [TextFormatter("%(message)s"), JsonFormatter()]


@pytest.mark.parametrize("form", FORMS)
def test_a_warning_gives_its_error_in_one_line(form: logging.Formatter) -> None:
    record = _record(logging.WARNING)

    assert in_one_line(record)
    said = form.format(record)
    assert "could not restore a pool: the server went away" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("form", FORMS)
def test_an_error_keeps_its_traceback(form: logging.Formatter) -> None:
    record = _record(logging.ERROR)

    assert in_one_line(record)
    assert "Traceback" in form.format(record)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_a_name_with_a_line_end_cannot_pass_for_a_line(form: logging.Formatter, end: str) -> None:
    name = f"mail{end}2026-01-01 INFO    all is well"
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "job of %s", (name,), None)

    lines = form.format(record).replace("\r", "\n").split("\n")

    assert not [line for line in lines if line.startswith("2026")]
    assert "all is well" in lines[-1]


@pytest.mark.parametrize(
    ("error", "said"), [(ConnectionResetError("lost"), False), (ValueError("a bug"), True)]
)
async def test_a_connection_that_nobody_waits_for_is_no_error(
    error: Exception, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    asyncio.get_running_loop().create_future().set_exception(error)
    gc.collect()

    [record] = caplog.records
    assert is_awaited(record) is said


def test_no_connection_gets_the_number_of_a_closed_stdout() -> None:
    """As where a shell starts a service with `>&-`."""
    code = (
        "import os; from quarterjack.process import set_up_logging; set_up_logging(); "
        "os._exit(os.open(os.devnull, 0))"
    )
    closed = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code)

    assert subprocess.run(closed).returncode > 2


def _record(level: int) -> logging.LogRecord:
    try:
        raise ConnectionError("the server went away")
    except ConnectionError:
        what, where = "could not restore %s", ("a pool",)
        return logging.LogRecord("a.library", level, __file__, 1, what, where, sys.exc_info())


@pytest.mark.parametrize("name", ["quarterjack_scheduler", "quarterjack_admin"])
async def test_a_service_that_waits_for_the_database_ends_when_told(
    database: TestDatabase, name: str
) -> None:
    command = (name, "--port", str(free_port())) if name == "quarterjack_admin" else (name,)
    away = {"DATABASE_URL": f"postgresql://u@127.0.0.1:{free_port()}/x"}
    async with cluster(database) as running:
        service = await running.start("n", *command, env=away)

        async def waits() -> bool:
            return any("no database yet" in line for line in service.lines)

        await until(waits, within=30)

        assert await service.stop() == 0


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nA: %s\r\n\r\n" % (b"a" * 20_000), b"\xff\r\n\r\n"]
)
async def test_what_is_no_request_leaves_no_traceback(database: TestDatabase, sent: bytes) -> None:
    async with cluster(database) as running:
        admin, url = await running.admin()
        await until(partial(running.answers, url))
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(sent)
        answer = await reader.read()
        writer.close()
        await admin.stop()

    assert answer.startswith(b"HTTP/1.0 400")
    [said] = admin.lines
    assert said.endswith(f"admin admin-1 started: {url}")
