"""Limits of a queue over all nodes: kept, shown, written down, and never over what another has set."""

from datetime import timedelta

import pytest

from quarterjack.queries import limits
from quarterjack.queries.limits import Limits
from tests.admin.conftest import Admin

LIMITS = {
    "global_limit": "3",
    "rate_limit": "100",
    "rate_period": "1m",
    "rate_burst": "",
    "partition_by": "tenant",
    "reason": "their server is small",
}


async def test_limits_are_kept_shown_and_audited(admin: Admin) -> None:
    ana = await admin.signed_in()

    page = await ana.post("/queues/sums/limits", LIMITS)

    assert "At most 3 jobs run at once. Up to 100 start at once, then 100 in 1 m." in page.text
    assert await limits.read(admin.database.pool, "sums") == Limits(
        global_limit=3, rate_limit=100, rate_period=timedelta(minutes=1), partition_by="tenant"
    )
    shown = page.fields()
    assert {name: shown[name] for name in LIMITS} == LIMITS | {"reason": ""}
    nothing = dict.fromkeys(LIMITS, "") | {"reason": "it has grown"}
    assert (
        "each node runs up to its own limit"
        in (await ana.post("/queues/sums/limits", nothing)).text
    )
    rows = await admin.database.pool.fetch(
        "SELECT before, after FROM qj_audit WHERE action = 'limit queue' ORDER BY id"
    )
    assert rows[1]["before"] == rows[0]["after"]
    assert rows[0]["after"]["rate_period"] == 60


@pytest.mark.parametrize(
    ("field", "text", "said"),
    [
        ("global_limit", "0", "from 1 to 1000000"),
        ("rate_limit", "", "give both"),
        ("rate_period", "soon", "soon"),
        ("rate_period", "400d", "1 ms to 31 days"),
        ("rate_period", "0.5ms", "1 ms to 31 days"),
        ("rate_period", "999999999w", "longer than any calendar"),
        ("partition_by", "k" * 128, "at most 127 characters"),
        ("reason", " ", "Say why"),
    ],
)
async def test_limits_that_cannot_be_are_told(
    admin: Admin, field: str, text: str, said: str
) -> None:
    page = await (await admin.signed_in()).post("/queues/sums/limits", LIMITS | {field: text})

    assert (page.status, said in page.text) == (422, True), page.text
    assert page.fields()["global_limit"] == (LIMITS | {field: text})["global_limit"]
    assert await limits.read(admin.database.pool, "sums") == Limits()


async def test_limits_that_another_has_set_meanwhile_are_not_overwritten(admin: Admin) -> None:
    ana, ben = await admin.signed_in(), await admin.signed_in("ben")
    first, second = [(await each.get("/queues/sums")).fields() for each in (ana, ben)]
    wanted = {"global_limit": "3", "reason": "their server is small"}
    await ana.post("/queues/sums/limits", first | wanted)

    late = {"rate_limit": "9", "rate_period": "1s", "reason": "they asked for it"}
    told = await ben.post("/queues/sums/limits", second | {"csrf_token": ben.csrf} | late)
    kept = await limits.read(admin.database.pool, "sums")
    [again, twice] = [await ben.post("/queues/sums/limits", told.fields()) for _ in range(2)]

    assert (told.status, "Someone set other limits" in told.text) == (422, True)
    assert "At most 3 jobs run at once." in told.text
    assert told.fields()["rate_limit"] == "9"
    assert kept == Limits(global_limit=3)
    assert "Up to 9 start at once" in again.text
    assert (twice.status, twice.path) == (200, "/queues/sums")
