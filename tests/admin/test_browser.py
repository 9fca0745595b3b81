"""The pages in a real Chromium: accessible, live, quiet under the content security policy, usable without script."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, expect

from tests.admin.conftest import Admin, add_user, serve
from tests.browser import browser_page
from tests.conftest import TestDatabase

pytestmark = pytest.mark.newest_postgres
SEED = """
INSERT INTO qj_schedules (name, worker, cron, timezone, queue, description)
VALUES ('nightly', 'count', '30 2 * * *', 'Europe/Prague', 'sums', 'Count the stars.'),
       ('broken', 'count', 'never', 'Etc/UTC', 'sums', ''),
       ('paused', 'count', '@hourly', 'Etc/UTC', 'sums', '');
UPDATE qj_schedules SET paused_at = now(), paused_by = 'ben', paused_reason = 'disk full' WHERE name = 'paused';
UPDATE qj_schedules SET broken_reason = '''never'' cannot be read' WHERE name = 'broken';
INSERT INTO qj_job_types (worker, args_schema, registered_by, queue, description)
VALUES ('count', '{"type": "object", "properties": {"n": {"type": "integer"}}}', 'w', 'sums', 'Count.');
INSERT INTO oban_jobs (worker, state, queue, meta, attempt, attempted_at, completed_at, discarded_at, args, errors)
SELECT 'count', state, 'sums', '{"cron_name": "nightly", "trigger": "schedule"}', 1, now(), now(),
  CASE WHEN state = 'discarded' THEN now() END, '{"n": 1}',
  '{"{\\"attempt\\": 1, \\"error\\": \\"Boom: x\\\\nmore\\"}"}'
FROM unnest(enum_range(NULL::oban_job_state)) AS state;
INSERT INTO qj_journals (job_id, attempted_at, attempt, percent, message, lines)
SELECT id, attempted_at AT TIME ZONE 'UTC', attempt, 12.5, 'star 1 of 8',
  jsonb_build_array(jsonb_build_object('at', now(), 'level', 'info', 'text', 'a long word: ' || repeat('x', 400)))
FROM oban_jobs WHERE state = 'executing';
INSERT INTO qj_ticks (schedule_id, tick_at, outcome, reason, version)
SELECT id, now() - interval '1 day', 'skipped_overlap', 'job 1 had not ended', 1 FROM qj_schedules;
INSERT INTO qj_peers (uuid, node, pid, version, started_at, heartbeat_at)
VALUES (gen_random_uuid(), 'scheduler-1', 7, '0.1.0', now(), now());
INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit, running)
VALUES (gen_random_uuid(), 'Oban', 'worker-1', 8, '0.1.0', 'sums', 10, 3);
INSERT INTO qj_queues (queue, node, paused, changed_by, reason)
VALUES ('sums', '', true, 'ben', 'disk full'), ('sums', 'worker-1', false, 'ben', 'it has its own');
INSERT INTO oban_jobs (worker, state, queue, meta)
VALUES ('count', 'suspended', 'sums',
  '{"qj_workflow": {"id": "00000000000000000000000000000000", "name": "stars", "job": "sum", "depth": 1}}');
INSERT INTO qj_edges (parent, child, name, even_if, outcome)
SELECT p.id, c.id, 'part ' || p.id, '{discarded}', CASE WHEN p.state = 'completed' THEN 'completed' END
FROM oban_jobs AS p, oban_jobs AS c
WHERE c.meta ? 'qj_workflow' AND p.id <> c.id;
INSERT INTO qj_terms (term, holder, node, acquired_at) VALUES (1, gen_random_uuid(), 'scheduler-1', now());
"""
PAGES = (
    *("/schedules", "/schedules/nightly", "/schedules/paused", "/schedules/broken", "/jobs", "/jobs/4", "/jobs/5"),
    *("/schedules/nightly/edit", "/schedules/nightly/run", "/schedules/nightly/pause", "/schedules/nightly/delete"),
    *("/catalogue", "/catalogue/run?worker=count", "/freeze", "/new-schedule", "/account", "/nowhere", "/cluster"),
    *("/queues", "/queues/sums", "/jobs/all/cancel?queue=sums"),
    *("/jobs/9", "/jobs?state=suspended", "/workflows/00000000000000000000000000000000"),
    *("/schedules?q=nothing", "/schedules/nightly/backfill", "/schedules/nightly/backfill?from=x&to="),
)  # fmt: skip
STRAY = """() => [...document.querySelectorAll(".rows [data-label]")].some((cell) =>
  getComputedStyle(cell).display === "grid" && [...cell.childNodes].some((node) => {
    const range = document.createRange();
    range.selectNode(node);
    const { left, width } = range.getBoundingClientRect();
    return width && left < cell.getBoundingClientRect().left + 100;
  }))"""


@asynccontextmanager
async def visit(admin: Admin, **options: bool | int) -> AsyncIterator[Page]:
    """Sign in as an admin in a browser."""
    await add_user(admin.database, "ana", "admin")
    async with browser_page(**options) as page:  # type: ignore[arg-type] # its own keywords
        await page.goto(f"{admin.origin}/sign-in")
        await sign_in(page)
        await page.wait_for_url("**/schedules")
        yield page


async def sign_in(page: Page) -> None:
    await page.get_by_label("Name").fill("ana")
    await page.get_by_label("Password").fill("correct horse battery")
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_url(lambda address: "/sign-in" not in address)


@pytest.mark.parametrize(("dark", "width"), [(False, 1280), (True, 1280), (True, 390)])
async def test_every_page_is_accessible(admin: Admin, dark: bool, width: int) -> None:
    await admin.database.pool.execute(SEED)
    found = {}
    async with visit(admin, dark=dark, width=width, complaints=False) as page:
        for path in PAGES:
            await page.goto(admin.origin + path)
            results = await Axe().run(page)
            wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
            stray = await page.evaluate(STRAY)
            if results.violations_count or wide or stray:
                found[path] = (
                    [(v["id"], v["nodes"][0]["html"][:120]) for v in results.response["violations"]]
                    + ["wider than the window"] * wide
                    + ["text under a label"] * stray
                )

    assert found == {}


async def test_a_page_shows_changes_and_keeps_what_is_typed(admin: Admin) -> None:
    await admin.database.pool.execute(SEED)
    async with visit(admin) as page:
        await expect(page.locator("#live")).to_have_text("Live")
        await page.locator("#q").press_sequentially("half a wo")
        await admin.database.pool.execute(
            "UPDATE qj_schedules SET cron = '*/7 * * * *' WHERE name = 'nightly'"
        )

        await expect(page.get_by_role("row", name="nightly")).to_contain_text("*/7 * * * *")
        await expect(page.locator("#q")).to_have_value("half a wo")
        await expect(page.locator("#q")).to_be_focused()


async def test_a_node_that_goes_away_leaves_the_choice_to_no_other(admin: Admin) -> None:
    await admin.database.pool.execute(
        """
        INSERT INTO qj_producers (uuid, name, node, pid, version, queue, local_limit)
        SELECT gen_random_uuid(), 'Oban', 'w-' || n, 1, '0', 'sums', 10 FROM generate_series(1, 3) AS n
        """
    )
    async with visit(admin, complaints=False) as page:
        await page.goto(f"{admin.origin}/queues/sums")
        chosen = page.locator("#node")
        await expect(chosen).to_have_value("")
        await chosen.select_option("w-2")
        await admin.database.pool.execute("DELETE FROM qj_producers WHERE node = 'w-1'")
        await expect(chosen.locator("[value=w-1]")).to_have_count(0)
        await expect(chosen).to_have_value("w-2")
        await admin.database.pool.execute("DELETE FROM qj_producers WHERE node = 'w-2'")
        await expect(chosen.locator("[value=w-2]")).to_have_count(0)
        await expect(chosen).to_have_value("?")
        await page.locator("#reason").fill("it is slow")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("main")).to_contain_text("The node that was chosen has gone")

    assert await admin.database.pool.fetchval("SELECT count(*) FROM qj_queues") == 0


async def test_an_open_trace_stays_open_while_the_job_ends(admin: Admin) -> None:
    await admin.database.pool.execute(SEED)
    async with visit(admin) as page:
        await page.goto(f"{admin.origin}/jobs/4")
        await expect(page.locator("h1")).to_contain_text("executing")
        await page.get_by_text("1 more line").click()
        await admin.database.pool.execute("UPDATE oban_jobs SET state = 'completed' WHERE id = 4")

        await expect(page.locator("h1")).to_contain_text("completed")
        await expect(page.locator(".trace").first).to_be_visible()


async def test_a_page_of_what_has_gone_says_so(admin: Admin) -> None:
    await admin.database.pool.execute(SEED)
    async with visit(admin, complaints=False) as page:
        await page.goto(f"{admin.origin}/jobs/4")
        await expect(page.locator("#live")).to_have_text("Live")
        await admin.database.pool.execute("DELETE FROM oban_jobs WHERE id = 4")

        await expect(page.locator("#live")).to_have_text("Gone")
        await expect(page.locator("h1")).to_contain_text("Job 4")


async def test_progress_moves_on_an_open_page(admin: Admin) -> None:
    await admin.database.pool.execute(SEED)
    async with visit(admin) as page:
        await page.goto(f"{admin.origin}/jobs/4")
        await expect(page.locator(".reach")).to_contain_text("12.5 % star 1 of 8")
        await admin.database.pool.execute("UPDATE qj_journals SET percent = 80, message = NULL")

        await expect(page.locator(".reach")).to_have_text("80.0 %")


async def test_a_name_that_turns_the_writing_turns_no_words_of_the_page(admin: Admin) -> None:
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, queue, max_attempts) VALUES ('count', $1, 20)", "a\u202eb"
    )
    async with visit(admin) as page:
        await page.goto(f"{admin.origin}/jobs/1")
        left, right = await page.evaluate(
            """() => [0, 9].map((at) => {
              const words = document.evaluate("//p/text()[contains(., 'attempt')]", document, null, 9).singleNodeValue;
              const letter = document.createRange();
              letter.setStart(words, words.data.indexOf("attempt") + at);
              letter.setEnd(words, words.data.indexOf("attempt") + at + 1);
              return letter.getBoundingClientRect().left;
            })"""
        )

    assert left < right


async def test_the_preview_follows_the_typing(admin: Admin) -> None:
    await admin.database.pool.execute(SEED)
    async with visit(admin) as page:
        await page.goto(f"{admin.origin}/schedules/nightly/edit")
        preview = page.locator("#preview")
        await page.get_by_label("Cron").fill("30 6 * * mon-fri")
        await expect(preview).to_contain_text("At 06:30 on Monday to Friday")
        await page.get_by_label("Time zone").fill("Asia/Kathmandu")
        await expect(preview).to_contain_text("06:30:00 +0545")
        await page.get_by_label("Cron").fill("0 0 30 2 *")
        await expect(preview).to_contain_text("names a date that does not exist in any year")
        await page.get_by_role("button", name="Hourly").click()
        await expect(preview).to_contain_text("24 times in the next 24 hours")


async def test_without_script_everything_works(admin: Admin) -> None:
    await admin.database.pool.execute(SEED)
    async with visit(admin, javascript=False) as page:
        await page.goto(f"{admin.origin}/schedules/nightly/edit")
        await page.get_by_label("Cron").fill("*/10 * * * *")
        await page.get_by_role("button", name="Show what it means").click()
        await expect(page.locator("#preview")).to_contain_text("Every 10 minutes")
        await page.get_by_role("button", name="Save and apply").click()
        await expect(page.locator("#applied")).to_contain_text("Version 2")
        await page.get_by_role("link", name="Run now").click()
        await page.get_by_role("button", name="Run now").click()
        await expect(page.locator("main")).to_contain_text("was enqueued")
        await page.get_by_role("button", name="Theme: auto").click()
        await expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        await page.locator(".menu summary").click()
        await page.get_by_role("button", name="Sign out").click()
        await expect(page).to_have_title("Sign in · Quarterjack")

    assert await admin.database.pool.fetchval(
        "SELECT cron = '*/10 * * * *' FROM qj_schedules WHERE name = 'nightly'"
    )


async def test_a_form_outlives_its_session(admin: Admin) -> None:
    await admin.database.pool.execute(SEED)
    async with visit(admin) as page:
        await page.goto(f"{admin.origin}/schedules/nightly/edit")
        await page.get_by_label("Reason").fill("it was late")
        await admin.database.pool.execute("DELETE FROM qj_sessions")
        await page.get_by_role("button", name="Save and apply").click()
        async with page.context.expect_page() as opened:
            await page.get_by_role("link", name="Sign in again").click()
        await sign_in(await opened.value)

        await page.get_by_role("button", name="Save and apply").click()
        await page.wait_for_url("**/schedules/nightly")

    assert await admin.database.pool.fetchval(
        "SELECT reason = 'it was late' FROM qj_audit WHERE action = 'edit schedule'"
    )


async def test_a_page_that_refreshes_itself_outlives_its_session(admin: Admin) -> None:
    await admin.database.pool.execute(SEED)
    async with visit(admin, complaints=False) as page:
        await page.goto(f"{admin.origin}/queues/sums")
        await page.locator("#reason").fill("the disk is full")
        await admin.database.pool.execute("DELETE FROM qj_sessions")
        await expect(page.locator("#signed-out")).to_contain_text("You are signed out")
        await expect(page.locator("#live")).to_have_text("Signed out")
        async with page.context.expect_page() as opened:
            await page.get_by_role("link", name="Sign in again").click()
        await sign_in(await opened.value)

        await expect(page.locator("#signed-out")).to_be_hidden()
        await expect(page.locator("#live")).to_have_text("Live")
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("main")).to_contain_text("by ana: the disk is full")


async def test_what_is_shown_stays_while_the_database_is_away(
    own_server_database: TestDatabase,
) -> None:
    database = own_server_database
    await database.pool.execute(SEED)
    async with AsyncExitStack() as stack:
        admin = await serve(database, stack)
        async with visit(admin, complaints=False) as page:
            await page.goto(f"{admin.origin}/cluster")
            database.server.stop("immediate")
            await expect(page.locator("#stale")).to_contain_text("Nothing new can be loaded.")
            await expect(page.locator("main")).to_contain_text("worker-1")
            database.server.start()
            await expect(page.locator("#stale")).to_be_hidden()
            await expect(page.locator("#live")).to_have_text("Live")
