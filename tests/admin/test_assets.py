"""What the pages are made of: pinned, escaped, and free of anything inline."""

import hashlib
import re
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import quarterjack_admin
from quarterjack.redaction import redact, restore, scrub
from quarterjack_admin.assets import CONTENT, DIRECTORY, address
from quarterjack_admin.limits import ACCOUNT, Limits
from quarterjack_admin.preview import Preview, preview_typed
from quarterjack_admin.words import ahead, away, took
from tests.admin.conftest import Admin

ROOT = Path(quarterjack_admin.__file__).parent
TEMPLATES = sorted((ROOT / "templates").glob("*.html"))
BANNED = re.compile(
    r"\|\s*safe\b|hx-on|\bjs:|javascript:|\bstyle=|<style|<script(?![^>]*\bsrc=)|\son[a-z]+=|https?://(?!www\.w3\.org)"
)
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def test_vendored_files_are_as_published() -> None:
    listed = tomllib.loads((DIRECTORY / "vendor" / "VENDOR.toml").read_text())["file"]
    for each in listed:
        content = (DIRECTORY / "vendor" / each["path"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == each["sha256"], each["path"]
    scripts = {name for name in CONTENT if name.startswith("vendor/")}
    assert scripts == {f"vendor/{each['path']}" for each in listed if each["path"].endswith(".js")}


@pytest.mark.parametrize("file", TEMPLATES, ids=lambda file: file.name)
def test_a_template_holds_nothing_inline(file: Path) -> None:
    assert BANNED.findall(file.read_text()) == []


@pytest.mark.parametrize(
    "banned", ["<p style='x'>", "{{ x | safe }}", "<b onclick='x'>", "<script>x</script>"]
)
def test_what_is_banned_is_found(banned: str) -> None:
    assert BANNED.search(banned)


async def test_assets_are_immutable_under_their_hash(admin: Admin) -> None:
    visitor = await admin.visitor()
    page = await visitor.get(address("page.js"))

    assert page.status == 200
    assert page.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert "immutable" in page.headers["Cache-Control"]
    for path in ("/static/0/page.js", "/static/0/../config.py", "/static/0/%2e%2e/%2e%2e/app.py"):
        assert (await visitor.get(path)).status == 404


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0312, "31 ms"),
        (1.25, "1.2 s"),
        (59, "59 s"),
        (60, "1 m"),
        (200, "3 m 20 s"),
        (7200, "2 h"),
    ],
)
def test_a_length_of_time_in_words(seconds: float, said: str) -> None:
    assert took(timedelta(seconds=seconds)) == said


def test_a_distance_in_words() -> None:
    assert away(NOW + timedelta(seconds=72), NOW) == "in 1 m 12 s"
    assert away(NOW - timedelta(seconds=5.9), NOW) == "5 s ago"
    assert away(NOW + timedelta(seconds=0.9), NOW) == "now"


@pytest.mark.parametrize(
    ("dst", "gap", "fold"),
    [
        ("once", "the run between them is at 03:00 instead", "comes twice and runs once"),
        ("skip", "the run between them is skipped", "comes twice and runs once"),
        ("both", "the run between them is at 03:00 instead", "comes twice and runs twice"),
    ],
)
def test_the_preview_warns_of_changing_clocks(dst: str, gap: str, fold: str) -> None:
    spring, autumn = look_ahead("30 2 * * *", "Europe/Prague", dst).cautions

    assert spring.startswith("On 28 Mar 2027 clocks go from 02:00 to 03:00")
    assert gap in spring
    assert autumn.startswith("On 31 Oct 2027 clocks go from 03:00 to 02:00")
    assert fold in autumn


@pytest.mark.parametrize("expression", ["30 4 * * *", "*/15 * * * *", "30 */2 * * *"])
def test_the_preview_does_not_warn_without_need(expression: str) -> None:
    assert look_ahead(expression, "Europe/Prague", "once").cautions == []


@pytest.mark.parametrize(
    "text",
    ["", "* " * 5_000, "1" * 5_000, "\0", "9-1 * * * *", "*/0 * * * *", "R R * * *", "🕐 * * * *"],
)
def test_the_preview_of_anything_is_an_answer(text: str) -> None:
    assert look_ahead(text, "Etc/UTC", "once").error
    assert look_ahead("* * * * *", text, text).error


def test_secrets_are_hidden_and_restored() -> None:
    stored = {"list": [{"password": "a"}, {"x": 1}], "deep": {"api_key": "b"}, "mine": "c"}
    shown = redact(stored, ["mine"])

    assert shown == {
        "list": [{"password": "•••• hidden"}, {"x": 1}],
        "deep": {"api_key": "•••• hidden"},
        "mine": "•••• hidden",
    }
    assert restore(shown, stored) == stored
    assert scrub("db://u:pw@h failed, token=abc") == "db://••••@h failed, token=••••"


def test_tries_refill_with_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    limits = Limits()
    first = [limits.wait(ACCOUNT, "ana") for _ in range(6)]
    other = limits.wait(ACCOUNT, "ben")
    clock[0] += first[-1]

    assert first[:5] == [0.0] * 5
    assert first[5] == pytest.approx(12)
    assert other == 0.0
    assert limits.wait(ACCOUNT, "ana") == 0.0


def look_ahead(expression: str, zone: str, dst: str) -> Preview:
    typed = {"cron": expression, "timezone": zone, "dst": dst}
    return preview_typed(typed, {}, NOW, name="s")


@pytest.mark.parametrize(
    ("milliseconds", "said"), [(0.4, "0 ms"), (-0.4, "0 ms"), (20, "+20 ms"), (-1200, "−1.2 s")]
)
def test_a_clock_is_ahead_or_behind(milliseconds: float, said: str) -> None:
    assert ahead(timedelta(milliseconds=milliseconds)) == said
