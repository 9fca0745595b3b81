"""The specification's scenarios of the admin UI, in a real browser beside real services."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from playwright.async_api import Page, expect

from tests.admin.conftest import link
from tests.browser import browser_page
from tests.conftest import TestDatabase
from tests.processes import cluster
from tests.waiting import until

WORKER = "ServiceRadarWebNG.Jobs.RefreshTraceSummariesWorker"
COUNT = f"SELECT count(*) FROM oban_jobs WHERE worker = '{WORKER}'"
BY_HAND = f"{COUNT} AND meta ->> 'trigger' = 'manual'"
SCHEDULE = "/schedules/refresh_trace_summaries"


@asynccontextmanager
async def admin_user(database: TestDatabase) -> AsyncIterator[tuple[Page, str]]:
    """Run scheduler, worker and admin, and sign a person in by the one-time link."""
    async with cluster(database) as running:
        await running.scheduler()
        await running.worker()
        _, url = await running.admin()
        await until(lambda: database.pool.fetchval("SELECT count(*) FROM qj_schedules"))
        await until(lambda: running.answers(url))
        async with browser_page() as page:
            await page.goto(url + await link(database))
            await page.get_by_role("button", name="Sign in").click()
            await page.wait_for_url("**/schedules")
            yield page, url


async def test_admin_updates_a_job_schedule(database: TestDatabase) -> None:
    async with admin_user(database) as (page, url):
        await page.goto(url + SCHEDULE)
        await page.get_by_role("link", name="Edit").click()
        await page.get_by_label("Cron").fill("* * * * * *")
        await expect(page.locator("#preview")).to_contain_text("Every second")
        await page.get_by_label("Reason").fill("see it run")
        await page.get_by_role("button", name="Save and apply").click()

        await expect(page.locator("#applied")).to_contain_text("Version 2, saved by admin")
        await expect(page.locator("#applied")).to_contain_text("Applied by scheduler-1 after")
        stored = await database.pool.fetchval("SELECT cron FROM qj_schedules")
        await until(
            lambda: database.pool.fetchval("SELECT count(*) >= 2 FROM qj_ticks WHERE version = 2")
        )

    assert stored == "* * * * * *"
    assert await database.pool.fetchval(f"{COUNT} AND meta ->> 'schedule_version' = '2'")


async def test_admin_views_job_run_history(database: TestDatabase) -> None:
    async with admin_user(database) as (page, url):
        await database.pool.execute(
            "UPDATE qj_schedules SET cron = '* * * * * *', uniqueness = NULL"
        )
        await until(lambda: database.pool.fetchval(f"SELECT ({COUNT} AND state = 'completed') > 1"))
        await database.pool.execute("UPDATE qj_schedules SET paused_at = now(), paused_by = 'test'")
        await page.goto(url + "/schedules")
        row = page.get_by_role("row", name="refresh_trace_summaries")
        await expect(row).to_contain_text("completed")
        await expect(row.locator("time").first).to_be_visible()

        await page.goto(url + SCHEDULE)
        latest = page.get_by_role("table", name="Runs of").get_by_role("row").nth(1)
        await expect(latest).to_contain_text("completed")
        job = await database.row(
            "SELECT id, to_char(attempted_at, 'HH24:MI:SS.MS') AS started,"
            " to_char(completed_at, 'HH24:MI:SS.MS') AS ended FROM oban_jobs ORDER BY id DESC LIMIT 1"
        )
        shown = await latest.inner_text()

    for value in (str(job["id"]), job["started"], job["ended"]):
        assert value in shown


async def test_user_triggers_refresh_job(database: TestDatabase) -> None:
    async with admin_user(database) as (page, url):
        await database.pool.execute("UPDATE qj_schedules SET cron = '0 0 1 1 *'")
        before = await database.pool.fetchval(BY_HAND)
        await page.goto(url + "/schedules")
        await page.get_by_role("link", name="Run now: refresh_trace_summaries").click()
        await page.get_by_role("button", name="Run now").click()
        await page.wait_for_url("**/jobs/**")
        await expect(page.locator("h1")).to_contain_text("completed")
        after = await database.pool.fetchval(BY_HAND)

    assert after == before + 1
