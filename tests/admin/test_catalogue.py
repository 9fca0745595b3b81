"""The catalogue: what workers can run, found by name, page by page."""

import re

from tests.admin.conftest import Admin

FILL = """
INSERT INTO qj_job_types (worker, registered_by, queue, description)
SELECT 'job_' || to_char(n, 'FM0000'), 'w', CASE n WHEN 7 THEN 'Stars' ELSE 'sums' END, 'Does it.'
FROM generate_series(1, 1201) AS n
"""


async def test_it_is_paged_to_its_end(admin: Admin) -> None:
    await admin.database.pool.execute(FILL)
    visitor = await admin.signed_in()
    path, found = "/catalogue", []
    for _ in range(13):
        page = await visitor.get(path)
        found.append(re.findall(r'class="name">([^<]+)<', page.html))
        if further := re.search(r'href="([^"]+)" rel="next"', page.html):
            path = further[1]

    assert [len(each) for each in found] == [100] * 12 + [1]
    assert [name for names in found for name in names] == [f"job_{n:04}" for n in range(1, 1202)]
    assert 'rel="prev"' in page.html


async def test_it_is_searched_by_name_queue_and_description(admin: Admin) -> None:
    await admin.database.pool.execute(FILL)
    visitor = await admin.signed_in()

    by_name, by_queue = (
        await visitor.get("/catalogue?q=B_12"),
        await visitor.get("/catalogue?q=star"),
    )
    first, nothing = await visitor.get("/catalogue?q=does"), await visitor.get("/catalogue?q=%25")

    assert len(re.findall('class="name"', by_name.html)) == 2
    assert re.findall('class="name">([^<]+)<', by_queue.html) == ["job_0007"]
    assert 'href="/catalogue?page=2&amp;q=does" rel="next"' in first.html
    assert "No job matches." in nothing.text
