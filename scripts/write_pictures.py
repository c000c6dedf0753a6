"""Takes the pictures of docs/console/: every page of the console, light and dark, wide and narrow.

    python scripts/write_pictures.py            # serves the demo's teacher, which `rlt demo` must have made

It starts a service of its own on a free port and an empty folder, does on each page what a person would, and writes
PNGs of 256 colours, a few tens of kB each. Needs a chromium on the path.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from itertools import product
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "docs" / "console"
WIDTHS = {"wide": 1280, "narrow": 390}
SCHEMES = ("light", "dark")
COLOURS = 256
READY_SECONDS = 180
PROBLEM = {
    "question": "8 +2 +1 +1 +2 +1",
    "solution": "5",
    "n": "4",
    "temperature": "1.3",
    "max_tokens": "24",
    "seed": "7",
}
LINES = [
    json.dumps({"question": " +".join(map(str, digits)), "solution": str(sum(digits) % 10)})
    for digits in product(range(1, 4), repeat=5)
]
CHAINS = "\n".join([LINES[0], '{"question": "8 +2 +1"}', *LINES[1:40], '{"question": "torn', *LINES[40:]]).encode()
"""A file of problems with two bad rows."""


def _try(page: Page, url: str) -> None:
    page.goto(f"{url}/console/try")
    for name, value in PROBLEM.items():
        page.locator(f"#{name}").fill(value)
    page.get_by_role("button", name="Explain").click()
    page.locator(".view").first.wait_for()
    page.locator("input[name=trace]").last.check()
    page.locator("#compare button").click()
    page.locator(".view").nth(1).wait_for()
    page.locator(".view").nth(1).get_by_label("gain").check()


def _system(page: Page, url: str) -> None:
    page.goto(f"{url}/console/system")


def _sign_in(page: Page, url: str) -> None:
    page.goto(f"{url}/console/sign-in")


def _new_dataset(page: Page, url: str) -> None:
    page.goto(f"{url}/console/datasets/new")
    page.locator("#file").set_input_files({"name": "chains.jsonl", "mimeType": "application/jsonl", "buffer": CHAINS})
    page.get_by_role("button", name="Upload").click()
    page.get_by_label("Leave the bad rows out").check()
    page.get_by_label("Name").fill("chains of digits")
    page.get_by_label("Explanations to keep").fill("2")
    page.get_by_label("Longest, tokens").fill("24")
    page.get_by_label("gain, leak").check()
    page.get_by_role("button", name="What will it take?").click()
    page.locator("#estimate .done").wait_for()


def _dataset(page: Page, url: str) -> None:
    _new_dataset(page, url)
    page.get_by_role("button", name="Create the dataset").click()
    page.get_by_text("completed").wait_for(timeout=1000 * READY_SECONDS)
    page.get_by_role("button", name="Show the card").click()
    page.get_by_role("region", name="The card").wait_for()


def _datasets(page: Page, url: str) -> None:
    page.goto(f"{url}/console/datasets")


@cache
def _scored_dataset(url: str) -> str:
    """The address of the rows of a dataset whose rows differ, once it is made."""
    sampling = {"temperature": 1.3, "max_tokens": 24}
    asked = {
        "problems": list(map(json.loads, LINES[:45])),
        "n": 2,
        "best_of": 4,
        "sampling": sampling,
        "measures": True,
    }
    made = _called(f"{url}/v1/datasets", asked | {"name": "chains of digits, the best two of four"})
    while (made := _called(f"{url}/v1/datasets/{made['id']}"))["status"] != "completed":
        time.sleep(0.2)
    return f"{url}/console/datasets/{made['id']}/rows"


def _called(url: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urlopen(Request(url, data, {"content-type": "application/json"})) as answer:
        return json.load(answer)


def _rows(page: Page, url: str) -> None:
    page.goto(f"{_scored_dataset(url)}?include=all&min_reward=-3&max_leak=0.4&limit=12")
    page.get_by_text("rows match").wait_for()
    page.locator(".chart canvas").first.wait_for()


def _row(page: Page, url: str) -> None:
    page.goto(_scored_dataset(url))
    page.locator(".row-id a").first.click()
    page.get_by_role("button", name="See what the student understood").click()
    page.locator(".view").wait_for()
    page.get_by_role("button", name="Make it again").click()
    page.get_by_text("It came out").wait_for()


def _training(page: Page, url: str) -> None:
    page.goto(f"{url}/console/training")


def _run(page: Page, url: str) -> None:
    _training(page, url)
    page.get_by_role("link", name="rlt_teacher").first.click()
    page.locator(".curve canvas").last.wait_for()


PAGES: dict[str, Callable[[Page, str], None]] = {
    "try": _try,
    "new-dataset": _new_dataset,
    "dataset": _dataset,
    "datasets": _datasets,
    "rows": _rows,
    "row": _row,
    "training": _training,
    "run": _run,
    "system": _system,
    "sign-in": _sign_in,
}
"""What is done on a page before its picture is taken."""


def main() -> None:
    """Writes all pictures."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("write_pictures: no chromium is on the path; install one (apt-get install chromium)")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    PICTURES.mkdir(exist_ok=True)
    with serving("--runs", "demo") as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        for name, prepare in PAGES.items():
            for width_name, width in WIDTHS.items():
                for scheme in SCHEMES:
                    path = PICTURES / f"{name}-{width_name}-{scheme}.png"
                    path.write_bytes(picture(browser, url, prepare, width, scheme))
                    print(f"{path.relative_to(ROOT)}: {path.stat().st_size:,} bytes")
        browser.close()


def picture(browser: Browser, url: str, prepare: Callable[[Page, str], None], width: int, scheme: str) -> bytes:
    """A PNG of the whole page."""
    with browser.new_context(viewport={"width": width, "height": 800}, reduced_motion="reduce") as context:
        page = context.new_page()
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        prepare(page, url)
        page.wait_for_load_state("networkidle")
        taken = Image.open(BytesIO(page.screenshot(full_page=True))).convert("RGB")
    small = BytesIO()
    taken.quantize(COLOURS, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return small.getvalue()


@contextmanager
def serving(*options: str) -> Iterator[str]:
    """The address of a service, of the demo's teacher unless the options name another, which ends with this."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    with tempfile.TemporaryDirectory() as data:
        command = [sys.executable, "-m", "student.cli", "serve", "--port", str(port), "--data", data]
        service = subprocess.Popen([*command, "--engine", "transformers", "--name", "worker-1", *options])
        try:
            _await_ready(service, url)
            yield url
        finally:
            service.terminate()
            service.wait()


def _await_ready(service: "subprocess.Popen[bytes]", url: str) -> None:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if service.poll() is not None:
            sys.exit("write_pictures: the service did not start; what it said is above")
        try:
            with urlopen(f"{url}/health/ready", timeout=5):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    sys.exit(f"write_pictures: the service was not ready within {READY_SECONDS} s")


if __name__ == "__main__":
    main()
