"""Telling about alerts: by web and mail, at least once, through failures, from any replica."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from quarterjack.clock import within
from quarterjack.database import Pool
from quarterjack.errors import SettingInvalid
from quarterjack.queries import alerts, deliveries
from quarterjack_scheduler import alert_channels
from quarterjack_scheduler.alert_channels import Email, Told, Webhook
from quarterjack_scheduler.alerts import LEASE, Alerts
from tests.conftest import TestDatabase
from tests.processes import cluster
from tests.scheduler.test_alerts import add_job, overdue, stuck
from tests.sinks import MailSink, WebSink, mail_sink, web_sink
from tests.waiting import until

ADDRESSES = {
    "QUARTERJACK_ALERT_EMAIL_TO": "a@example.org, b@example.org",
    "QUARTERJACK_ALERT_EMAIL_FROM": "q@example.org",
}
SOON = "UPDATE qj_alert_deliveries SET next_attempt_at = now() WHERE delivered_at IS NULL"
DELIVERED = "SELECT bool_and(delivered_at IS NOT NULL) FROM qj_alert_deliveries"
Sink = WebSink | MailSink


def webhook(url: str) -> Webhook:
    return Webhook(url=url)


def mail(url: str, **columns: Any) -> Email:
    port = urlsplit(url).port or 0
    defaults: dict[str, Any] = {"encrypted": False, "user": None, "password": None}
    to = ("a@example.org", "b@example.org")
    return Email(to=to, sender="q@example.org", host="127.0.0.1", port=port, **defaults | columns)


@asynccontextmanager
async def telling(pool: Pool, *channels: Webhook | Email, replicas: int = 1) -> AsyncIterator[None]:
    """Run the alerts of some replicas."""
    told = Told(channels=channels, public_url="https://jobs.example.org")
    running = [asyncio.create_task(Alerts(pool, told).run()) for _ in range(replicas)]
    try:
        yield
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def has(sink: Sink, count: int) -> bool:
    return len(sink.received) >= count


async def test_an_alert_and_its_end_are_posted(database: TestDatabase) -> None:
    await stuck(database)
    async with web_sink() as web:
        async with telling(database.pool, webhook(web.url)):
            await until(lambda: has(web, 1))
            await until(lambda: database.pool.fetchval(DELIVERED))
        await add_job(database.pool, "completed")
        async with telling(database.pool, webhook(web.url)):
            await until(lambda: has(web, 2))

    raised, resolved = web.received
    assert raised.keys() == {
        "event", "id", "schedule", "tick_at", "kind", "message", "raised_at", "resolved_at", "url",
    }  # fmt: skip
    assert (raised["event"], raised["schedule"], raised["kind"]) == (
        "raised",
        "nightly",
        "uncompleted",
    )
    assert raised["url"] == "https://jobs.example.org/schedules/nightly"
    assert (resolved["event"], resolved["id"]) == ("resolved", raised["id"])
    assert resolved["message"].startswith("nightly: job ")


async def test_an_alert_is_mailed(database: TestDatabase) -> None:
    await stuck(database)
    async with mail_sink() as sink, telling(database.pool, mail(sink.url)):
        await until(lambda: has(sink, 1))

    [message] = sink.received
    assert (message["Subject"], message["To"]) == (
        "nightly is late",
        "a@example.org, b@example.org",
    )
    text = message.get_content()
    assert "no run has completed since the tick of" in text
    assert "https://jobs.example.org/schedules/nightly" in text


async def test_four_replicas_tell_once(database: TestDatabase) -> None:
    await stuck(database)
    async with web_sink() as web, telling(database.pool, webhook(web.url), replicas=4):
        await until(lambda: database.pool.fetchval("SELECT delivered_at FROM qj_alert_deliveries"))

    assert len(web.received) == 1


@pytest.mark.parametrize("answer", ["500 Broken", "404 Gone", "302 Found"])
async def test_a_failed_message_is_sent_again_later(database: TestDatabase, answer: str) -> None:
    await stuck(database)
    async with web_sink(answer) as web:
        async with telling(database.pool, webhook(web.url)):
            await until(
                lambda: database.pool.fetchval("SELECT last_error FROM qj_alert_deliveries")
            )
        row = await database.row(
            "SELECT attempts, last_error, next_attempt_at > now() + interval '1 s' AS later, "
            "delivered_at FROM qj_alert_deliveries"
        )
        assert tuple(row) == (1, f"the answer was {answer[:3]}", True, None)
        await database.pool.execute(SOON)
        async with telling(database.pool, webhook(web.url)):
            await until(lambda: has(web, 1))


async def test_a_broken_channel_does_not_stop_the_other(database: TestDatabase) -> None:
    await stuck(database)
    broken = webhook("http://127.0.0.1:9/")
    async with mail_sink() as sink, telling(database.pool, broken, mail(sink.url)):
        await until(lambda: has(sink, 1))
        await until(
            lambda: database.pool.fetchval("SELECT max(last_error) FROM qj_alert_deliveries")
        )


async def test_a_password_is_not_sent_in_clear(database: TestDatabase) -> None:
    await stuck(database)
    async with mail_sink() as sink:
        channel = mail(sink.url, user="me", password="secret")
        async with telling(database.pool, channel):
            error = await until(
                lambda: database.pool.fetchval("SELECT last_error FROM qj_alert_deliveries")
            )

    assert "no STARTTLS" in error
    assert "secret" not in f"{error}{channel}"
    assert sink.received == []


async def test_the_end_waits_for_the_beginning(database: TestDatabase) -> None:
    await stuck(database)
    await alerts.raise_late(database.pool, channels=["webhook"], limit=1)
    first = await deliveries.take(database.pool, channel="webhook", lease=LEASE)
    await add_job(database.pool, "completed")
    await alerts.note_completions(database.pool)
    await alerts.resolve(database.pool)
    assert first is not None
    assert await deliveries.take(database.pool, channel="webhook", lease=LEASE) is None

    await deliveries.delivered(database.pool, first)

    last = await deliveries.take(database.pool, channel="webhook", lease=LEASE)
    assert last is not None
    assert (first.event, last.event) == ("raised", "resolved")


async def test_a_message_of_a_dead_replica_is_sent_by_another(database: TestDatabase) -> None:
    await stuck(database)
    await alerts.raise_late(database.pool, channels=["webhook"], limit=1)
    lost = await deliveries.take(database.pool, channel="webhook", lease=LEASE)
    await database.pool.execute(SOON)

    taken = await deliveries.take(database.pool, channel="webhook", lease=LEASE)

    assert lost is not None
    assert taken is not None
    assert (lost.attempts, taken.attempts) == (1, 2)
    assert not await deliveries.failed(database.pool, lost, error="late", again_in=LEASE)


async def test_a_process_tells_though_nobody_can_lead(database: TestDatabase) -> None:
    await overdue(database)
    async with (
        web_sink() as web,
        database.pool.acquire() as holding,
        holding.transaction(),
        cluster(database) as running,
    ):
        await holding.execute("SELECT FROM qj_lease FOR UPDATE")
        scheduler = await running.start(
            "scheduler-1", "quarterjack_scheduler", env={"QUARTERJACK_ALERT_WEBHOOK": web.url}
        )
        await until(lambda: has(web, 1), within=20)
        said = [line for line in scheduler.lines if "ERROR" in line]
        assert await database.pool.fetchval("SELECT holder FROM qj_lease") is None

    assert web.received[0]["kind"] == "undecided"
    assert "no scheduler has decided it" in said[0]
    assert not any(urlsplit(web.url).path in line for line in scheduler.lines)


async def test_an_answer_that_does_not_end_keeps_no_process_from_ending(
    database: TestDatabase,
) -> None:
    await overdue(database)
    asked, ended = asyncio.Event(), asyncio.Event()

    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        asked.set()
        with suppress(OSError):
            while not await within(1, reader.read()):
                writer.write(b"x")
        writer.close()
        ended.set()

    async with (
        await asyncio.start_server(drip, "127.0.0.1", 0) as server,
        cluster(database) as running,
    ):
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        scheduler = await running.start(
            "scheduler-1", "quarterjack_scheduler", env={"QUARTERJACK_ALERT_WEBHOOK": url}
        )
        await asyncio.wait_for(asked.wait(), 30)

        assert await scheduler.stop() == 0
        await ended.wait()


async def test_without_a_channel_alerts_are_rows(database: TestDatabase) -> None:
    await stuck(database)
    async with telling(database.pool):
        await until(lambda: database.pool.fetchval("SELECT count(*) FROM qj_alerts"))

    assert await database.pool.fetchval("SELECT count(*) FROM qj_alert_deliveries") == 0


def test_settings_name_the_channels(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    secret = tmp_path / "smtp"
    secret.write_text("smtp://me:p%40ss@mail.example.org\n")
    monkeypatch.setenv("QUARTERJACK_ALERT_WEBHOOK", "https://hooks.example.org/secret")
    monkeypatch.setenv("QUARTERJACK_SMTP_URL_FILE", str(secret))
    for name, value in ADDRESSES.items():
        monkeypatch.setenv(name, value)

    web, email = alert_channels.from_environment().channels

    assert web == Webhook(url="https://hooks.example.org/secret")
    assert isinstance(email, Email)
    assert (email.host, email.port, email.encrypted) == ("mail.example.org", 587, False)
    assert (email.user, email.password) == ("me", "p@ss")
    assert "ss" not in json.dumps(repr(email)).replace("password", "")
    assert "secret" not in repr(web)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"QUARTERJACK_ALERT_WEBHOOK": "ftp://host/secret"}, "is no web address"),
        ({"QUARTERJACK_ALERT_WEBHOOK": "http://me:secret@host/"}, "no user in it"),
        ({"QUARTERJACK_ALERT_WEBHOOK": "http://host:secret/"}, "cannot be read"),
        ({"QUARTERJACK_ALERT_WEBHOOK": "http://host/a secret"}, "cannot be read"),
        ({"QUARTERJACK_ALERT_WEBHOOK_FILE": "/nowhere"}, "cannot be read"),
        ({"QUARTERJACK_PUBLIC_URL": "jobs.example.org"}, "QUARTERJACK_PUBLIC_URL"),
        ({"QUARTERJACK_SMTP_URL": "smtp://host"}, "need QUARTERJACK_ALERT_EMAIL_TO and"),
        (ADDRESSES, "need QUARTERJACK_SMTP_URL"),
        (ADDRESSES | {"QUARTERJACK_SMTP_URL": "http://host"}, "is no SMTP address"),
        (ADDRESSES | {"QUARTERJACK_SMTP_URL": "smtp://secret@host"}, "both user and password"),
        (ADDRESSES | {"QUARTERJACK_SMTP_URL": "smtp://me:secr%C3%A9t@host"}, "in ASCII"),
        (
            ADDRESSES
            | {"QUARTERJACK_SMTP_URL": "smtp://h", "QUARTERJACK_ALERT_EMAIL_TO": "a@b\nc"},
            "plain addresses",
        ),
    ],
)
def test_a_wrong_setting_is_refused(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], complaint: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    with pytest.raises(SettingInvalid, match=complaint) as refusal:
        alert_channels.from_environment()

    assert "secr" not in str(refusal.value)
