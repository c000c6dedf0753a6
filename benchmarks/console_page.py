"""How soon the console's first page is ready, and how a very long explanation moves, in a real chromium.

    python -m benchmarks.console_page                   # about two minutes; wants a quiet machine

The first page: `/console` in a browser that has seen nothing yet, some times over; the median of bytes over the wire,
of the first paint and of the end of loading. The long explanation: a text of 20,000 tokens put into the Try page of a
service whose student is a small model with random weights; how long scoring it takes, then drawing it, then the frames
while it is scrolled from end to end, and while a token's numbers are asked for by the keyboard. Frames are drawn in
software where there is no GPU. The service's log goes to stderr. Left out: what a network adds.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median

from playwright.sync_api import Browser, Page, sync_playwright

from scripts.write_pictures import LINES, serving
from student.configs import ScratchConfig
from student.scratch import main as scratch

PATIENCE_MS = 300_000
CONTEXT = 32_768
STEP = "12 + 7 = 19, so it is 19 and neither 18 nor 20. " * 5 + "\n\n"
READY = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  const files = performance.getEntriesByType("resource");
  const bytes = [page, ...files].reduce((sum, each) => sum + each.transferSize, 0);
  return {"kB": bytes / 1000, "first paint, ms": paint.startTime, "ready, ms": page.loadEventEnd};
}"""
SCROLL = """async () => {
  const frames = [];
  let last = performance.now();
  const end = document.documentElement.scrollHeight - innerHeight;
  for (let step = 0; step <= 60; step++) {
    scrollTo(0, end * step / 60);
    await new Promise(requestAnimationFrame);
    frames.push(performance.now() - last);
    last = performance.now();
  }
  frames.sort((a, b) => a - b);
  return {"scrolled, median frame, ms": frames[30], "scrolled, longest frame, ms": frames.at(-1)};
}"""


def first_page(browser: Browser, url: str, visits: int) -> Mapping[str, float]:
    """Medians over visits of a browser without a cache."""
    seen = []
    for _ in range(visits):
        with browser.new_context() as context:
            page = context.new_page()
            page.goto(f"{url}/console", wait_until="load")
            page.wait_for_timeout(200)
            seen.append(page.evaluate(READY))
    return {name: median(each[name] for each in seen) for name in seen[0]}


def long_explanation(browser: Browser, url: str, text: str) -> Mapping[str, float]:
    """Seconds to score and to draw it, and milliseconds of frames."""
    with browser.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.goto(f"{url}/console/try")
        page.locator("#question").fill("12 + 7")
        page.locator("#solution").fill("19")
        page.get_by_text("An explanation of your own").click()
        page.locator("#explanation").fill(text)
        begun = time.monotonic()
        with page.expect_response(lambda answer: answer.url.endswith("/try/view"), timeout=PATIENCE_MS) as answer:
            page.get_by_role("button", name="Show the student").click()
        answer.value.finished()
        scored = time.monotonic()
        page.locator(".view").wait_for()
        page.evaluate("() => new Promise(requestAnimationFrame)")
        drawn = time.monotonic()
        tokens = page.locator(".view .t").count()
        found = {"tokens drawn": tokens, "scored, s": scored - begun, "drawn, s": drawn - scored}
        scrolled: dict[str, float] = page.evaluate(SCROLL)
        return found | scrolled | {"a key, ms": key_press(page)}


def key_press(page: Page) -> float:
    """Milliseconds from an arrow key in the long text to the frame that shows the next token's numbers; the median."""
    page.locator(".tokens[data-kind=explanation]").focus()
    taken = []
    for _ in range(9):
        begun = time.monotonic()
        page.keyboard.press("ArrowRight")
        page.evaluate("() => new Promise(requestAnimationFrame)")
        taken.append(1000 * (time.monotonic() - begun))
    return median(taken)


def main() -> None:
    """Prints both."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.console_page", description=__doc__.split("\n")[0])
    parser.add_argument("--visits", type=int, default=9, help="of the first page (9)")
    parser.add_argument("--tokens", type=int, default=20_000, help="of the long explanation (20,000)")
    given = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("console_page: no chromium is on the path; install one (apt-get install chromium)")
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as folder:
        problems, model = Path(folder, "problems.jsonl"), str(Path(folder, "model"))
        problems.write_text("\n".join(LINES), encoding="utf-8")
        scratch(ScratchConfig(problems=str(problems), out=model, hidden_size=64, layers=2, max_tokens=CONTEXT))
        with serving("--teacher", model, "--student", model) as url, sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
            show("first page", first_page(browser, url, given.visits))
            show("long explanation", long_explanation(browser, url, text_of(model, given.tokens)))
            browser.close()


def text_of(model: str, tokens: int) -> str:
    """A text of as many tokens, to a step."""
    from transformers import AutoTokenizer

    each = len(AutoTokenizer.from_pretrained(model)(STEP).input_ids)
    return STEP * (tokens // each)


def show(title: str, figures: Mapping[str, float]) -> None:
    """A line a figure."""
    print(title)
    for name, value in figures.items():
        print(f"  {name:<30} {value:>10,.1f}" if value % 1 else f"  {name:<30} {value:>10,.0f}")


if __name__ == "__main__":
    main()
