"""A real browser for the console's tests: Debian's chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_MS = 60_000
"""How long a page is waited for, on a machine that does much else."""
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A chromium for the tests of one module. Not for longer: Playwright holds the thread's event loop while it runs.
    So name it last among a test's fixtures, behind those that run a loop of their own."""
    program = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if program is None:
        pytest.skip(f"no browser is installed: none of {', '.join(CHROMIUMS)} is on the path")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []  # as root it refuses to run with its sandbox
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=arguments)
        yield started
        started.close()


@dataclass
class Watched:
    """A page, and what happened in it."""

    page: Page
    said: list[str] = field(default_factory=list)
    """Errors and warnings of its console, and exceptions of its scripts."""
    asked: list[str] = field(default_factory=list)
    """The addresses that it asked for."""

    def listen(self) -> "Watched":
        """Notes all that happens from now on."""
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._see)
        return self

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(message.text)

    def _see(self, request: Request) -> None:
        self.asked.append(request.url)

    def outside(self, address: str) -> list[str]:
        """What it asked for that does not lie under an address."""
        return [url for url in self.asked if not url.startswith((f"{address}/", "data:"))]


@pytest.fixture
def watched(browser: Browser) -> Iterator[Watched]:
    """An empty page in a browser that has no cookies."""
    with browser.new_context(locale="en-GB") as context:
        context.set_default_timeout(PATIENCE_MS)
        yield Watched(context.new_page()).listen()
