"""Pages of jobs that wait for others, and of whole workflows."""

import quarterjack
from quarterjack import NewJob, Workflow, enqueue_batch
from quarterjack_admin.pages import workflow
from tests.admin.conftest import Admin
from tests.flows import end, settle

ID = "SELECT meta #>> '{qj_workflow,id}' FROM oban_jobs WHERE meta ? 'qj_workflow' LIMIT 1"


async def nightly(admin: Admin) -> dict[str, int]:
    flow = Workflow("the <books>")
    flow.add("fetch", NewJob(worker="Books.Fetch"))
    flow.add("report", NewJob(worker="Books.Report", even_if=["discarded"]), after=["fetch"])
    flow.add("send", NewJob(worker="Books.Send"), after=["report", "fetch"])
    return await flow.enqueue(admin.database.pool)


async def test_a_job_says_what_it_waits_for_and_what_waits_for_it(admin: Admin) -> None:
    ids = await nightly(admin)
    visitor = await admin.signed_in("vera", "viewer")

    waiting = await visitor.get(f"/jobs/{ids['report']}")
    await end(admin.database.pool, ids["fetch"], state="cancelled")
    await settle(admin.database.pool)
    cancelled = await visitor.get(f"/jobs/{ids['report']}")

    assert "report in the <books>" in waiting.text
    assert "It waits for fetch ." in waiting.text
    assert (
        "Waits for State Job Runs if it is Its end available fetch Fetch completed, discarded –"
        in waiting.text
    )
    assert (
        "Comes before State Job Runs if this one is suspended send Send completed" in waiting.text
    )
    assert f'href="/jobs/{ids["fetch"]}"' in waiting.html
    assert f"it waited for job {ids['fetch']} (fetch), which was cancelled" in cancelled.text
    assert "Waited for" in cancelled.text
    assert "It waits for" not in cancelled.text


async def test_a_job_that_another_program_suspended_says_so(admin: Admin) -> None:
    await admin.database.pool.execute(
        "INSERT INTO oban_jobs (worker, state) VALUES ('w', 'suspended')"
    )
    visitor = await admin.signed_in("vera", "viewer")

    page = await visitor.get("/jobs/1")

    assert "another program has suspended it" in page.text


async def test_a_parent_that_is_gone_is_no_link(admin: Admin) -> None:
    [parent] = await quarterjack.enqueue_many(admin.database.pool, [NewJob(worker="w")])
    child = await quarterjack.enqueue(admin.database.pool, "w", after=[parent.id or 0])
    await admin.database.pool.execute("DELETE FROM oban_jobs WHERE id = $1", parent.id)
    await settle(admin.database.pool)
    visitor = await admin.signed_in("vera", "viewer")

    page = await visitor.get(f"/jobs/{child.id}")

    assert f"deleted {parent.id} completed deleted" in page.text
    assert f'href="/jobs/{parent.id}"' not in page.html


async def test_a_workflow_is_shown_in_steps(admin: Admin) -> None:
    ids = await nightly(admin)
    await end(admin.database.pool, ids["fetch"])
    await settle(admin.database.pool)
    visitor = await admin.signed_in("vera", "viewer")

    page = await visitor.get(f"/workflows/{await admin.database.pool.fetchval(ID)}")

    assert (
        "the <books> 3 jobs that wait for each other: 1 available, 1 suspended, 1 completed"
        in page.text
    )
    steps = [part.split()[:3] for part in page.text.split(" Step ")[1:]]
    assert steps == [
        ["1", "completed", "fetch"],
        ["2", "available", "report"],
        ["3", "suspended", "send"],
    ]
    assert "send Send report , fetch" in page.text


async def test_a_large_batch_is_shown_in_pages(admin: Admin) -> None:
    batch = await enqueue_batch(
        admin.database.pool, [NewJob(worker="part")] * (workflow.PAGE + 5), NewJob(worker="whole")
    )
    visitor = await admin.signed_in("vera", "viewer")
    path = f"/workflows/{await admin.database.pool.fetchval(ID)}"

    first = await visitor.get(path)
    second = await visitor.get(f"{path}?after=0~{batch.ids[workflow.PAGE - 1]}")
    callback = await visitor.get(f"/jobs/{batch.callback}")

    assert first.html.count('<tr id="job-') == workflow.PAGE
    assert f'href="{path}?after=0~{batch.ids[workflow.PAGE - 1]}"' in first.html
    assert second.html.count('<tr id="job-') == 6
    assert f'id="job-{batch.callback}"' in second.html
    assert f'href="{path}"' in second.html
    assert "and more" in second.text
    assert "20 of 105 are shown." in callback.text
    assert "and 102 more" in callback.text


async def test_the_list_says_what_suspended_jobs_wait_for(admin: Admin) -> None:
    await nightly(admin)
    visitor = await admin.signed_in("vera", "viewer")

    page = await visitor.get("/jobs?state=suspended")

    assert "Send waits for fetch, report" in page.text


async def test_what_other_programs_write_breaks_no_page(admin: Admin) -> None:
    id = "0" * 32
    await admin.database.pool.execute(
        """
        INSERT INTO oban_jobs (worker, meta)
        SELECT 'w', meta::jsonb
        FROM unnest(ARRAY[
          '{"qj_workflow": 7}', '{"qj_workflow": {"id": 7}}', '[{"qj_workflow": {}}]',
          format('{"qj_workflow": {"id": "%1$s", "name": 7, "depth": "deep"}}', $1::text),
          format('{"qj_workflow": {"id": "%1$s", "name": "n", "job": [], "depth": 1e300}}', $1::text),
          format('{"qj_workflow": {"id": "%1$s", "depth": -3.5}}', $1::text)
        ]) AS meta
        """,
        id,
    )
    visitor = await admin.signed_in("vera", "viewer")

    pages = [await visitor.get(f"/jobs/{number}") for number in range(1, 7)]
    whole = await visitor.get(f"/workflows/{id}")
    strange = [
        await visitor.get(f"/workflows/{id}?after={after}")
        for after in ("x", "1", "9~9", "9" * 40 + "~1")
    ]

    assert {page.status for page in [*pages, whole, *strange]} == {200}
    assert "3 jobs that wait" in whole.text
    assert (await visitor.get("/workflows/" + "1" * 32)).status == 404
