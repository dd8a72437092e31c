"""How fast the stakeholder's page answers, measured in a real Chromium on the real artefacts.

    python benchmarks/app.py [--quick] [--chromium PATH]

First useful paint: from opening the address in a fresh browser profile (nothing cached) until the sentence with its
amount is visible; and until the picture is drawn. Interaction: from the key press or the click until what depends on
it has changed, timed inside the browser. The pages read summaries, so what stands behind them, ten thousand rows or ten
million, makes no difference to them: the last line says how large the largest report is that they read.
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
SENTENCE_TARGET, REDRAW_TARGET, ANSWER_TARGET = 2.5, 0.3, 0.5

# Page, what must be seen first, and its picture.
EARNED = {
    "Answer": ("", ".mlw-sentence strong", ".mlw-slopes div"),
    "Attribution": ("attribution", ".mlw-lifts .mlw-from", ".js-plotly-plot .main-svg"),
    "Targeting": ("targeting", ".mlw-values .mlw-from", ".js-plotly-plot .main-svg"),
    "Plan": ("plan", ".mlw-split", ".mlw-second"),
}
WATCHED = {
    "Health": ("health", ".mlw-sentence", ".mlw-multiples"),
    "Score card": ("score_card", ".mlw-sentence", ".mlw-tests"),
}

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


# Remember when the reader acted and when a text next read otherwise.
READ = """([event, selector]) => {
  const told = () => document.querySelector(selector)?.innerText;
  const before = told();
  window.taken = new Promise((resolve, reject) => window.addEventListener(event, () => {
    const start = performance.now();
    setTimeout(() => reject(new Error("nothing changed within 10 s")), 10000);
    const look = () => told() && told() !== before ? resolve(performance.now() - start) : requestAnimationFrame(look);
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


def painted(browser: Browser, address: str, first: str, picture: str) -> tuple[float, float]:
    "Open a page in a fresh profile: seconds to its first useful words, seconds to its picture."
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        start = time.perf_counter()
        page.goto(address, wait_until="commit")
        page.locator(first).first.wait_for()
        words = time.perf_counter() - start
        page.locator(picture).first.wait_for()
        return words, time.perf_counter() - start


def settled(browser: Browser, address: str) -> Page:
    "A page that has finished loading."
    page = browser.new_context(viewport={"width": 1280, "height": 1400}).new_page()
    page.goto(address)
    page.locator('.stApp[data-test-script-state="notRunning"]').wait_for()
    page.wait_for_timeout(1500)
    return page


def moved(page: Page, slider: str, told: str, step: int) -> float:
    "Seconds from a key press on a slider to the changed sentence."
    page.get_by_role("slider", name=slider).focus()
    page.evaluate(READ, ["keydown", told])
    page.keyboard.press("ArrowRight" if step % 2 else "ArrowLeft")
    return page.evaluate("window.taken") / 1000


def switched(page: Page, step: int) -> float:
    "Seconds from choosing another arm to its metrics."
    page.evaluate(READ, ["click", ".mlw-lifts"])
    page.locator(".stMain [data-testid=stButtonGroup] button").nth((step + 1) % 2).click()
    return page.evaluate("window.taken") / 1000


def visited(browser: Browser, address: str, pages: dict[str, tuple[str, str, str]], visits: int) -> list[str]:
    "Each of some pages, in a fresh profile every time."
    rows = []
    for name, (path, first, picture) in pages.items():
        times = [painted(browser, f"{address}/{path}", first, picture) for _ in range(visits)]
        rows.append(row(f"{name}: first useful paint", [words for words, _ in times], SENTENCE_TARGET))
        rows.append(row(f"{name}: picture", [drawn for _, drawn in times], None))
    return rows


def earned(browser: Browser, address: str, visits: int, moves: int) -> list[str]:
    "The pages about what was earned."
    rows = visited(browser, address, EARNED, visits)
    page = settled(browser, f"{address}/attribution")
    rows.append(
        row("Attribution: another arm", [switched(page, step) for step in range(moves)], ANSWER_TARGET)
    )
    for name, path, slider, told in (
        ("Targeting: another capacity", "targeting", "Offers a week", ".mlw-because"),
        ("Plan: another effect to find", "plan", "Effect to find", ".mlw-second"),
    ):
        page = settled(browser, f"{address}/{path}")
        rows.append(row(name, [moved(page, slider, told, step) for step in range(moves)], ANSWER_TARGET))
    return rows


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
    report = options.root / "reports" / "attribution.json"
    with served(options.root) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=options.chromium, args=FLAGS)
        forecast = f"{address}/forecast"
        page, *first = opened(browser, forecast)
        later = [opened(browser, forecast)[1:] for _ in range(visits)]
        keys = [by_key(page, step) for step in range(moves)]
        mouse = [by_mouse(page, step) for step in range(moves)]
        pages = earned(browser, address, visits, moves) if report.is_file() else []
        pages += visited(browser, address, WATCHED, visits)
        browser.close()
    rows = [
        row("First visit after the start: sentence", [first[0]], SENTENCE_TARGET),
        row("First visit after the start: curve", [first[1]], None),
        row("Forecast: sentence (first useful paint)", [visit[0] for visit in later], SENTENCE_TARGET),
        row("Forecast: curve", [visit[1] for visit in later], None),
        row("Forecast: slider to redrawn curve, mouse", mouse, REDRAW_TARGET),
        row("Forecast: slider to redrawn curve, keyboard", keys, REDRAW_TARGET),
        *pages,
    ]
    print("| App | median | worst | n | target | met |\n|---|---|---|---|---|---|", *rows, sep="\n")
    if report.is_file():
        print(
            f"\nThe pages read {report.stat().st_size / 1000:,.0f} kB of attribution.json, whatever it summarises."
        )
    sys.exit(any(line.endswith("| NO |") for line in rows))


if __name__ == "__main__":
    main()
