"""Schedules that a file or code manages: said, and where they differ."""

from html import unescape

from tests.admin.conftest import Admin
from tests.conftest import TestDatabase

MADE = """
WITH made AS (
  INSERT INTO qj_schedules (name, worker, cron, args, managed_by, updated_by)
  VALUES ('nightly', 'count', '30 2 * * *', '{"token": "s3cr3t-1"}', 'file', 'file:deploy.yaml')
  RETURNING id, version
)
INSERT INTO qj_managed (schedule_id, source, definition, version)
SELECT
  id, 'deploy.yaml',
  '{"cron": "30 2 * * *", "queue": "default", "args": {"token": "s3cr3t-1"}, "timeout": null}', version
FROM made
"""
CODE = """
INSERT INTO qj_job_types (worker, schedule, queue, registered_by) VALUES
('count', '{"name": "nightly", "cron": "@hourly", "timezone": "Etc/UTC", "catchup": "last", "overlap": "skip"}', 'sums',
 'worker-1')
"""


async def edit(database: TestDatabase, by: str, assignment: str) -> None:
    await database.pool.execute(f"UPDATE qj_schedules SET {assignment}, updated_by = $1", by)


async def test_a_file_that_agrees_is_only_named(admin: Admin) -> None:
    await admin.database.pool.execute(MADE)
    visitor = await admin.signed_in()

    listed, shown = await visitor.get("/schedules"), await visitor.get("/schedules/nightly")

    assert "managed by file" in listed.text
    assert "managed by a file (deploy.yaml)" in shown.text
    assert "differs" not in listed.text + shown.text


async def test_drift_is_shown_with_version_and_author(admin: Admin) -> None:
    await admin.database.pool.execute(MADE)
    await edit(admin.database, "bob", "cron = '0 5 * * *'")
    await edit(admin.database, "ana", "timeout = '90 min', args = '{\"token\": \"s3cr3t-2\"}'")
    visitor = await admin.signed_in()

    listed, shown = await visitor.get("/schedules"), await visitor.get("/schedules/nightly")

    assert "differs from its file: Cron, Arguments, Timeout" in listed.text
    assert "This schedule is managed by a file (deploy.yaml) and differs from it." in shown.text
    assert "Cron: 30 2 * * * there, 0 5 * * * here since version 2 by bob" in shown.text
    assert "Timeout: none there, 1h 30m here since version 3 by ana" in shown.text
    assert 'Arguments: {"token": "•••• hidden"} there' in shown.text
    assert "s3cr3t" not in listed.html + shown.html
    assert "/schedules/nightly/restore?version=1" in shown.html


async def test_what_differs_can_be_put_back(admin: Admin) -> None:
    await admin.database.pool.execute(MADE)
    await edit(admin.database, "bob", "cron = '0 5 * * *'")
    visitor = await admin.signed_in()
    form = await visitor.get("/schedules/nightly/restore?version=1")

    saved = await visitor.post("/schedules/nightly/edit", form.fields())

    assert saved.path == "/schedules/nightly"
    assert "differs" not in saved.text


async def test_code_that_says_otherwise_is_shown(admin: Admin) -> None:
    await admin.database.pool.execute(CODE)
    await admin.database.pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron, queue, managed_by)"
        " VALUES ('nightly', 'count', '@daily', 'sums', 'code')"
    )
    visitor = await admin.signed_in()

    listed, shown = await visitor.get("/schedules"), await visitor.get("/schedules/nightly")

    assert "differs from its code: Cron" in listed.text
    assert "managed by the code of count and differs from it" in shown.text
    assert "Cron: @hourly there, @daily here" in shown.text


async def test_the_form_and_the_removal_warn(admin: Admin) -> None:
    await admin.database.pool.execute(MADE)
    visitor = await admin.signed_in()

    form = await visitor.get("/schedules/nightly/edit")
    removal = await visitor.get("/schedules/nightly/delete")

    assert "put back the next time the file is applied" in unescape(form.text)
    assert "the next apply makes it anew" in removal.text


async def test_a_schedule_of_the_page_has_no_owner(admin: Admin) -> None:
    await admin.database.pool.execute(
        "INSERT INTO qj_schedules (name, worker, cron) VALUES ('nightly', 'count', '@daily')"
    )
    visitor = await admin.signed_in()

    pages = [await visitor.get(f"/schedules{path}") for path in ("", "/nightly", "/nightly/edit")]

    assert [page.status for page in pages] == [200, 200, 200]
    assert "managed by" not in "".join(page.text for page in pages)
