"""How fast the stakeholder's page answers, measured in a real Chromium on the real artefacts.

    python benchmarks/app.py [--quick] [--chromium PATH]

First useful paint: from opening the address in a fresh browser profile (nothing cached) until the sentence with its
amount is visible; and until the curve is drawn. Slider to redrawn curve: from the key press or the click
until the marked point has moved, timed inside the browser.
"""

import argparse
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
MARK = ".js-plotly-plot .textpoint text"
SENTENCE_TARGET, REDRAW_TARGET = 2.5, 0.3

# Remember when the reader acted and when the marked point next stood elsewhere.
WATCH = """([event, selector]) => {
  const place = () => document.querySelector(selector)?.getBoundingClientRect().x;
  const before = place();
  window.taken = new Promise((resolve, reject) => window.addEventListener(event, () => {
    const start = performance.now();
    setTimeout(() => reject(new Error("the curve was not redrawn within 10 s")), 10000);
    const look = () => Math.abs((place() ?? before) - before) > 1 ? resolve(performance.now() - start) : requestAnimationFrame(look);
    look();
  }, { once: true, capture: true }));
}"""


@contextmanager
def served(root: Path) -> Iterator[str]:
    "Serve the page of the project; yields its address once it answers."
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py")]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    server = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


def opened(browser: Browser, address: str) -> tuple[Page, float, float]:
    "Open the page in a fresh profile: the page, seconds to the sentence, seconds to the curve."
    page = browser.new_context(viewport={"width": 1280, "height": 900}).new_page()
    start = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.locator(".mlw-sentence strong").wait_for()
    sentence = time.perf_counter() - start
    page.locator(MARK).wait_for()
    return page, sentence, time.perf_counter() - start


def by_key(page: Page, step: int) -> float:
    "Seconds from a key press on the slider to the moved mark."
    page.get_by_role("slider").focus()
    page.evaluate(WATCH, ["keydown", MARK])
    page.keyboard.press("ArrowRight" if step % 2 else "ArrowLeft")
    return page.evaluate("window.taken") / 1000


def by_mouse(page: Page, step: int) -> float:
    "Seconds from a click on the slider's track to the moved mark."
    track = page.get_by_test_id("stSlider").bounding_box()
    handle = page.get_by_role("slider").bounding_box()
    page.evaluate(WATCH, ["pointerdown", MARK])
    share = 0.3 if step % 2 else 0.7
    page.mouse.click(track["x"] + share * track["width"], handle["y"] + handle["height"] / 2)
    return page.evaluate("window.taken") / 1000


def row(what: str, seconds: list[float], target: float | None) -> str:
    "A line of the table: median, worst, target, and whether the median meets it."
    middle = statistics.median(seconds)
    verdict = "" if target is None else ("yes" if middle < target else "NO")
    aim = "" if target is None else f"< {target:.1f} s"
    return f"| {what} | {middle:.2f} s | {max(seconds):.2f} s | {len(seconds)} | {aim} | {verdict} |"


def main() -> None:
    "Measure and print a Markdown table; exit code 1 when a target is missed."
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--root", type=Path, default=ROOT, help="a project with artefacts")
    parser.add_argument("--chromium", default=os.environ.get("MLW_TEST_CHROMIUM") or shutil.which("chromium"))
    options = parser.parse_args()
    if not options.chromium:
        parser.exit(2, "no Chromium: give its path with --chromium or MLW_TEST_CHROMIUM\n")
    if not (options.root / "reports" / "evaluation.json").is_file():
        parser.exit(2, f"{options.root}/reports/evaluation.json is missing: run `make run` first\n")
    visits, moves = (3, 6) if options.quick else (10, 20)
    with served(options.root) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        page, *first = opened(browser, address)
        later = [opened(browser, address)[1:] for _ in range(visits)]
        keys = [by_key(page, step) for step in range(moves)]
        mouse = [by_mouse(page, step) for step in range(moves)]
        browser.close()
    rows = [
        row("First visit after the start: sentence", [first[0]], SENTENCE_TARGET),
        row("First visit after the start: curve", [first[1]], None),
        row("Fresh browser: sentence (first useful paint)", [visit[0] for visit in later], SENTENCE_TARGET),
        row("Fresh browser: curve", [visit[1] for visit in later], None),
        row("Slider to redrawn curve, mouse", mouse, REDRAW_TARGET),
        row("Slider to redrawn curve, keyboard", keys, REDRAW_TARGET),
    ]
    print("| App | median | worst | n | target | met |\n|---|---|---|---|---|---|", *rows, sep="\n")
    sys.exit(any(line.endswith("| NO |") for line in rows))


if __name__ == "__main__":
    main()
