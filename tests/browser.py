"""A real Chromium for tests; every message it complains with fails the test."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import ConsoleMessage, Page, async_playwright

LOUD = ("warning", "error", "assert")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


@asynccontextmanager
async def browser_page(
    *, dark: bool = False, width: int = 1280, javascript: bool = True, complaints: bool = True
) -> AsyncIterator[Page]:
    """Give a fresh browser's page; with `complaints`, its console must stay quiet."""
    if not Path(CHROMIUM).is_file():  # noqa: ASYNC240 - once, before the browser starts
        raise FileNotFoundError("no Chromium: install Debian's chromium, or set CHROMIUM")
    said: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in LOUD:
            said.append(message.text)

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM)
        context = await browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=javascript,
        )
        context.set_default_timeout(15_000)
        page = await context.new_page()
        page.on("console", hear)
        page.on("pageerror", lambda error: said.append(str(error)))
        try:
            yield page
        finally:
            await browser.close()
    if complaints and said:
        raise AssertionError(said)
