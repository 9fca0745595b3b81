"""/live and /ready: what they say, when they say it, and who cannot disturb them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from quarterjack import health
from quarterjack.errors import SettingInvalid
from quarterjack.health import Health, Place
from quarterjack.metrics import Measure
from tests.processes import free_port
from tests.waiting import until


@pytest.fixture
async def place() -> Place:
    return Place(host="127.0.0.1", port=free_port())


@pytest.fixture
async def answers(place: Place) -> AsyncIterator[Health]:
    async with health.answering(place, blocked_after=30.0) as answering:
        answering.unready = lambda: None
        yield answering


async def ask(place: Place, path: str) -> tuple[int, str]:
    return read(await send(place, f"GET {path} HTTP/1.1\r\nHost: here\r\n\r\n".encode()))


async def send(place: Place, request: bytes, *, ends: bool = False) -> bytes:
    """Send as it is and give all that is said until the other side hangs up."""
    reader, writer = await asyncio.open_connection(place.host, place.port)
    try:
        writer.write(request)
        if ends:
            writer.write_eof()
        async with asyncio.timeout(10):
            return await reader.read()
    except OSError:
        return b""
    finally:
        writer.transport.abort()


def read(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), body.decode().strip()


@pytest.mark.usefixtures("answers")
async def test_a_sound_service_is_live_and_ready(place: Place) -> None:
    assert await ask(place, "/live") == (200, "ok")
    assert await ask(place, "/ready?verbose=1") == (200, "ok")
    assert await ask(place, "/metrics") == (200, "")


async def test_measures_are_written_as_prometheus_reads_them(answers: Health, place: Place) -> None:
    answers.measures = lambda: [
        Measure(name="q_jobs", about="Jobs.", value=2, labels={"queue": 'a "b"\\\n'}),
        Measure(name="q_jobs", about="Jobs.", value=0.5, labels={"queue": "c"}),
        Measure(name="q_lost_total", about="Lost.", value=12_345_678),
    ]

    status, text = await ask(place, "/metrics")

    assert status == 200
    assert text.splitlines() == [
        "# HELP q_jobs Jobs.",
        "# TYPE q_jobs gauge",
        r'q_jobs{queue="a \"b\"\\\n"} 2',
        'q_jobs{queue="c"} 0.5',
        "# HELP q_lost_total Lost.",
        "# TYPE q_lost_total counter",
        "q_lost_total 12345678",
    ]


async def test_what_does_not_get_on_is_said_in_words(answers: Health, place: Place) -> None:
    answers.unready = lambda: "the tick loop has finished no pass for 7.0 s"

    assert await ask(place, "/ready") == (503, "the tick loop has finished no pass for 7.0 s")
    assert await ask(place, "/live") == (200, "ok")


async def test_it_is_live_and_not_ready_while_it_starts(place: Place) -> None:
    async with health.answering(place, blocked_after=30.0):
        status, reason = await ask(place, "/ready")
        live = await ask(place, "/live")

    assert (status, live) == (503, (200, "ok"))
    assert "starting" in reason


async def test_a_blocked_event_loop_is_told_from_another_thread(place: Place) -> None:
    """Here the test's own loop stands for that of the service, so a thread must ask."""
    async with health.answering(place, blocked_after=0.0) as answers:
        answers.unready = lambda: None
        port = place.port
        time.sleep(0.05)  # noqa: ASYNC251 - this is the block

        def ask_now() -> bytes:
            import http.client

            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/live")
            answer = connection.getresponse()
            return f"{answer.status} {answer.read().decode()}".encode()

        said = ask_now()

    assert said.startswith(b"503 the event loop has had no turn for 0.")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /live HTTP/1.1\r\n\r\n", 405),
        (b"GET live HTTP/1.1\r\n\r\n", 400),
        (b"GET /live HTTP/2\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /\xff\xfe HTTP/1.1\r\n\r\n", 400),
        (b"GET /live HTTP/1.1\r\nX: " + b"y" * 3_000 + b"\r\n\r\n", 200),
    ],
)
@pytest.mark.usefixtures("answers")
async def test_any_request_has_one_short_answer(place: Place, request_: bytes, status: int) -> None:
    assert read(await send(place, request_))[0] == status


@pytest.mark.parametrize("request_", [b"", b"GET /live", b"x" * 1_000_000, b"GET /live\r\n" * 9])
@pytest.mark.usefixtures("answers")
async def test_what_is_no_request_has_no_answer(place: Place, request_: bytes) -> None:
    assert await send(place, request_, ends=True) == b""
    assert await ask(place, "/live") == (200, "ok")


@pytest.mark.usefixtures("answers")
async def test_the_silent_are_hung_up_on_and_hold_nobody_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "WITHIN", 0.2)
    async with crowd(place, health.AT_ONCE // 2) as readers:
        assert await ask(place, "/live") == (200, "ok")
        assert [await hung_up(reader) for reader in readers] == [True] * len(readers)


@pytest.mark.usefixtures("answers")
async def test_a_crowd_that_says_nothing_gives_way(place: Place) -> None:
    async with crowd(place, health.AT_ONCE * 2):
        assert await ask(place, "/live") == (200, "ok")


@pytest.mark.usefixtures("answers")
async def test_after_a_crowd_it_answers_again(place: Place) -> None:
    async with crowd(place, health.AT_ONCE + 20):
        pass

    async def answered() -> bool:
        said = await send(place, b"HEAD /live HTTP/1.0\r\n\r\n")
        return said.startswith(b"HTTP/1.1 200 ")

    await until(answered)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", None),
        ("off", None),
        ("8081", Place(host="127.0.0.1", port=8081)),
        ("0.0.0.0:8081", Place(host="0.0.0.0", port=8081)),  # noqa: S104 - a container's probe comes from outside
        ("[::1]:80", Place(host="::1", port=80)),
    ],
)
def test_a_place_is_host_and_port(
    monkeypatch: pytest.MonkeyPatch, text: str, found: Place | None
) -> None:
    monkeypatch.setenv("QUARTERJACK_HEALTH", text)

    assert health.from_environment() == found


@pytest.mark.parametrize("text", ["on", "here:", "here:0", "here:65536", "h h:1", "here:８", "-1"])
def test_another_place_is_refused(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("QUARTERJACK_HEALTH", text)

    with pytest.raises(SettingInvalid, match="QUARTERJACK_HEALTH"):
        health.from_environment()


@pytest.mark.usefixtures("answers")
async def test_a_place_that_is_taken_is_said(place: Place) -> None:
    with pytest.raises(SettingInvalid, match="in use"):
        async with health.answering(place, blocked_after=30.0):
            pass


@asynccontextmanager
async def crowd(place: Place, number: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connect so many times, and never finish a request."""
    opened = [await asyncio.open_connection(place.host, place.port) for _ in range(number)]
    try:
        for _, writer in opened:
            writer.write(b"GET /live HTTP/1.1\r\n")
        yield [reader for reader, _ in opened]
    finally:
        for _, writer in opened:
            writer.transport.abort()


async def hung_up(reader: asyncio.StreamReader) -> bool:
    try:
        async with asyncio.timeout(10):
            return await reader.read() == b""
    except ConnectionError:
        return True
