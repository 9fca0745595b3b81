"""Whatever a worker, a queue or a reason says stays a text, on every page and after it is shown anew."""

from urllib.parse import quote

import pytest
from playwright.async_api import expect

from tests.admin.conftest import Admin
from tests.admin.test_browser import visit

pytestmark = pytest.mark.newest_postgres
TEXT = "\"'></p></td><img src=/x onerror=pwned=1><a href=javascript:pwned=1 hx-get=/account>j</a>{{7*7}}"
SEED = """
INSERT INTO qj_schedules (name, worker, cron, queue, description, tags, args, updated_by)
SELECT name, $1, '@daily', $1, $1, ARRAY[$1], jsonb_build_object($1, $1), $1 FROM unnest('{s1,s2}'::text[]) AS name;
UPDATE qj_schedules SET paused_at = now(), paused_by = $1, paused_reason = $1 WHERE name = 's2';
INSERT INTO qj_job_types (worker, description, registered_by, queue, args_schema)
VALUES ($1, $1, $1, $1, jsonb_build_object('properties', jsonb_build_object($1, jsonb_build_object('type', $1))));
INSERT INTO oban_jobs (worker, queue, state, attempt, attempted_at, attempted_by, args, meta, tags, errors)
SELECT $1, $1, state, 1, now(), ARRAY[$1], jsonb_build_object($1, $1),
  jsonb_build_object('cron_name', $1, 'triggered_by', $1, 'trigger', 'manual', 'warning', $1, 'qj_workflow',
    jsonb_build_object('id', repeat('0', 32), 'name', $1, 'job', $1, 'depth', 1)),
  ARRAY[$1], ARRAY[jsonb_build_object('attempt', $1, 'at', $1, 'error', $1 || chr(10) || $1)]
FROM unnest('{executing,suspended}'::oban_job_state[]) AS state;
INSERT INTO qj_journals (job_id, attempted_at, attempt, percent, message, lines)
SELECT id, attempted_at AT TIME ZONE 'UTC', 1, 5, $1,
  jsonb_build_array(jsonb_build_object('at', $1, 'level', $1, 'text', $1))
FROM oban_jobs;
INSERT INTO qj_edges (parent, child, name) VALUES (1, 2, $1);
INSERT INTO qj_ticks (schedule_id, tick_at, outcome, reason, version)
SELECT id, now() - interval '1 day', $1, $1, 1 FROM qj_schedules;
INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit)
VALUES (gen_random_uuid(), $1, $1, 1, $1, $1, 1);
INSERT INTO qj_queues (queue, node, changed_by, reason, paused)
SELECT $1, node, $1, $1, true FROM unnest(ARRAY['', $1, $1 || '2']) AS node;
INSERT INTO qj_peers (uuid, node, pid, version, started_at, heartbeat_at)
VALUES (gen_random_uuid(), $1, 1, $1, now(), now());
INSERT INTO qj_calendars (name, days, updated_by) VALUES ($1, jsonb_build_object('2026-12-25', $1), $1);
INSERT INTO qj_alerts (schedule_id, schedule, tick_at, kind, message) VALUES (1, $1, now(), 'undecided', $1);
INSERT INTO qj_freeze (frozen_by, reason) VALUES ($1, $1);
"""
NAME = quote(TEXT, safe="")
PAGES = (
    *("/schedules", f"/schedules?q={NAME}", "/schedules/s1", "/schedules/s2", "/schedules/s1/edit"),
    *("/schedules/s1/run", "/schedules/s1/why", "/jobs", f"/jobs?worker={NAME}&queue={NAME}", "/jobs/1"),
    *("/jobs/2", "/queues"),
    *(f"/queues/{NAME}", "/catalogue", f"/catalogue/run?worker={NAME}", f"/new-schedule?worker={NAME}", "/calendars"),
    *(f"/calendars/{NAME}", "/cluster", f"/workflows/{'0' * 32}", f"/jobs/all/delete?queue={NAME}"),
)  # fmt: skip
ALIVE = """() => window.pwned || [...document.querySelectorAll("*")].some((each) =>
  [...each.attributes].some(({ name, value }) => /^on/.test(name) || /^javascript:/.test(value.trim()))
  || each.matches("img:not([src^='/static/']), script:not([src]), a[hx-get]"))"""


async def test_a_text_is_a_text(admin: Admin) -> None:
    literal = "'" + TEXT.replace("'", "''") + "'::text"
    await admin.database.pool.execute(SEED.replace("$1", literal))
    seen = {}
    async with visit(admin) as page:
        for path in PAGES:
            answer = await page.goto(admin.origin + path)
            assert answer is not None
            shown = TEXT in await page.content() or "<img src=/x" in await page.inner_text("body")
            seen[path] = (answer.status, shown, await page.evaluate(ALIVE))
        await page.goto(f"{admin.origin}/queues/{NAME}")
        await admin.database.pool.execute("UPDATE qj_queues SET reason = reason || ' anew'")
        await expect(page.locator("main")).to_contain_text("{{7*7}} anew")

        assert await page.evaluate(ALIVE) is False
    assert {path: found for path, found in seen.items() if found != (200, True, False)} == {}
