"""The page of runs: what it says and draws, and once in a real browser."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
ENDS = {"": 0.0, "_low": -50.0, "_high": 50.0}


class Shop:
    "A project under git, whose experiments are kept as `dvc exp run` keeps them."

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        (folder / "reports").mkdir(parents=True)
        shutil.copy(root / "params.yaml", folder)
        shutil.copytree(root / ".streamlit", folder / ".streamlit")
        self.params = yaml.safe_load((folder / "params.yaml").read_text())

    def git(self, *arguments: str) -> str:
        who = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        done = subprocess.run(
            ["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    def write(self, profit: float, *, depth: int = 4, currency: str = "USD", gate: str = "blessed") -> None:
        "What the stages leave behind."
        figures = {
            f"{name}{end}": profit + add
            for name in ("profit_per_week", "against_rule_per_week")
            for end, add in ENDS.items()
        }
        figures |= {"auc": 0.86, "average_precision": 0.47 + profit / 10_000}
        rule = {name: value / 2 for name, value in figures.items()}
        self.params["charter"]["currency"] = currency
        self.params["train"]["settings"] = {"xgboost": {"max_depth": depth}}
        candidate = {"name": "xgboost", "label": "XGBoost", "settings": {"max_depth": depth}}
        for name, content in {
            "metrics": {"xgboost": figures, "rule": rule, "proposal": {"policy": "xgboost", **figures}},
            "train": {"candidates": [candidate]},
            "gate": {"model": "xgboost", "verdict": gate},
        }.items():
            (self.folder / "reports" / f"{name}.json").write_text(json.dumps(content))
        (self.folder / "params.yaml").write_text(yaml.safe_dump(self.params))

    def commit(self) -> None:
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("commit", "-qm", "A first run")

    def experiment(self, name: str, profit: float, **changed: object) -> None:
        "Keep another run, and leave the workspace as it was."
        head = self.git("rev-parse", "HEAD")
        self.write(profit, **changed)
        self.git("add", "-A")
        made = self.git(
            "commit-tree", self.git("write-tree"), "-p", head, "-m", f"dvc: commit experiment {name}"
        )
        self.git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/{name}", made)
        self.git("reset", "-q", "--hard", head)


def stocked(folder: Path, root: Path) -> Shop:
    "A project with one committed run and three experiments, one in another currency."
    made = Shop(folder, root)
    made.write(120)
    made.commit()
    made.experiment("deeper", 124, depth=6)
    made.experiment("stump", 90, depth=1, gate="vetoed")
    made.experiment("abroad", 900, currency="SEK")
    return made


@pytest.fixture
def shop(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    "The stocked project, as the current folder."
    made = stocked(tmp_path / "shop", root)
    monkeypatch.chdir(made.folder)
    return made


def texts(page) -> str:
    "All HTML of a page, as a reader sees it."
    return re.sub("<[^>]*>", "", "\n".join(element.proto.body for element in page.get("html")))


def charts(page) -> list[dict]:
    "The figures of a page, in order."
    return [json.loads(each.proto.spec) for each in page.get("plotly_chart")]


def parallel(page) -> dict:
    "The figure with a line for each run."
    return next(
        each for each in charts(page) if all("lines" in trace.get("mode", "") for trace in each["data"])
    )


def amounts(page) -> dict:
    "The figure with an amount for each run."
    return next(each for each in charts(page) if "error_x" in each["data"][0])


def test_every_run_counted_alike_is_a_line_that_begins_with_its_profit(shop, page):
    shown = page("views/runs.py")
    assert not shown.exception
    figure = parallel(shown)
    assert {trace["name"] for trace in figure["data"]} == {"HEAD", "deeper", "stump"}
    heights = {trace["name"]: trace["y"][0] for trace in figure["data"]}
    assert heights["stump"] < heights["HEAD"] < heights["deeper"]
    headings = " ".join(note["text"] for note in figure["layout"]["annotations"])
    assert "Profit a month" in headings and "max_depth" in headings and "$550" in headings


def test_every_amount_has_its_range_in_months_the_best_on_top(shop, page):
    trace = amounts(page("views/runs.py"))["data"][0]
    assert trace["x"] == pytest.approx([90 * 52 / 12, 120 * 52 / 12, 124 * 52 / 12])
    assert trace["error_x"]["array"] == pytest.approx([50 * 52 / 12] * 3)
    assert "<b>deeper</b><br>$537 a month, between $321 and $754" in trace["customdata"]


def test_two_runs_are_told_in_words_from_head_to_the_best(shop, page):
    shown = page("views/runs.py")
    assert (
        "Of 3 runs counted alike, deeper earns most: $537 a month, between $321 and $754, $17 more than what is committed."
        in texts(shown)
    )
    assert "deeper: +$17 a month against HEAD" in texts(shown)
    assert "they do not tell whether the difference is sure" in texts(shown)
    assert "xgboost.max_depth46" in texts(shown)


def test_choosing_two_other_runs_tells_of_those(shop, page):
    shown = page("views/runs.py")
    shown.selectbox(key="after").set_value("stump").run()
    assert not shown.exception
    assert "stump: −$130 a month against HEAD" in texts(shown)
    assert "xgboost.max_depth41" in texts(shown)


def test_choosing_runs_draws_only_those(shop, page):
    shown = page("views/runs.py")
    shown.multiselect(key="picked").set_value(["HEAD", "stump"]).run()
    assert {trace["name"] for trace in parallel(shown)["data"]} == {"HEAD", "stump"}
    assert "Of 2 runs, what is committed (HEAD) earns most" in texts(shown)


def test_one_policy_can_be_followed_through_all_runs(shop, page):
    shown = page("views/runs.py")
    shown.selectbox(key="of").set_value("rule").run()
    assert not shown.exception
    assert "deeper earns most: $269 a month" in texts(shown)


def test_a_run_in_another_currency_is_in_the_table_and_in_no_picture(shop, page):
    shown = page("views/runs.py")
    assert "abroadin no picture, see belowSEK 3,900between SEK 3,683 and SEK 4,117" in texts(shown)
    assert "do not compare the amounts: abroad (charter.currency)" in texts(shown)


def test_a_broken_run_is_named_and_the_others_stay(shop, page):
    (shop.folder / "reports/metrics.json").write_text("{")
    shop.git("add", "-A")
    head = shop.git("rev-parse", "HEAD")
    broken = shop.git("commit-tree", shop.git("write-tree"), "-p", head, "-m", "broken")
    shop.git("update-ref", f"refs/exps/{head[:2]}/{head[2:]}/broken", broken)
    shop.git("reset", "-q", "--hard")
    shown = page("views/runs.py")
    assert not shown.exception
    assert "broken: reports/metrics.json cannot be read" in texts(shown)
    assert len(parallel(shown)["data"]) == 3


def test_a_new_experiment_appears_without_a_restart(shop, page):
    shown = page("views/runs.py")
    shop.experiment("wider", 200, depth=8)
    shown.run()
    assert "Of 4 runs counted alike, wider earns most" in texts(shown)


def test_the_best_of_many_is_said_to_be_lucky_beside_its_figure(shop, page):
    assert "The best of" not in texts(page("views/runs.py"))
    for number in range(2):
        shop.experiment(f"trial-{number}", 130 + number, depth=8 + number)
    assert "The best of 5 runs was picked on the weeks it is judged by" in texts(page("views/runs.py"))


def test_what_a_commit_says_is_shown_as_text(shop, page):
    shop.write(150)
    shop.git("commit", "-qam", "<script>alert(1)</script>")
    shown = page("views/runs.py")
    assert "&lt;script&gt;" in "".join(each.proto.body for each in shown.get("html"))


def test_a_single_run_is_shown_with_the_way_to_another(tmp_path, root, monkeypatch, page):
    alone = Shop(tmp_path / "alone", root)
    alone.write(120)
    monkeypatch.chdir(alone.folder)
    shown = page("views/runs.py")
    assert not shown.exception
    assert "One run so far: XGBoost earns $520 a month, between $303 and $737." in texts(shown)
    assert "dvc exp run -n deeper -S" in texts(shown)
    assert len(charts(shown)) == 1


def test_one_run_by_todays_terms_among_older_ones_does_not_claim_to_be_alone(shop, page):
    shop.params["charter"]["capacity_per_week"] = 77
    shop.write(130)
    shop.git("commit", "-qam", "Fewer offers")
    shown = page("views/runs.py")
    shown.multiselect(key="picked").set_value(
        [name for name in shown.multiselect(key="picked").options if name != "abroad"]
    ).run()
    assert not shown.exception
    assert "One run so far" not in texts(shown)
    assert "only one is counted by these terms: XGBoost earns $563 a month" in texts(shown)


def test_a_project_without_results_says_what_to_run(tmp_path, root, monkeypatch, page):
    empty = Shop(tmp_path / "empty", root)
    monkeypatch.chdir(empty.folder)
    shown = page("views/runs.py")
    assert not shown.exception
    assert "No runs to show yet" in texts(shown) and "make run" in texts(shown)


# In a browser


@pytest.fixture
def address(shop: Shop, root: Path) -> Iterator[str]:
    "Address of the page that shows the stocked project."
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", str(root / "app" / "main.py")]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMLIT_")}
    server = subprocess.Popen(command, cwd=shop.folder, env=environment, stdout=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while server.poll() is None and time.monotonic() < until:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=5).close()
                break
            except OSError:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(timeout=30)


@pytest.mark.browser
def test_the_page_reads_on_a_desktop_and_on_a_phone_without_outside_requests(
    browser, address, test_artefacts
):
    for size, (width, height) in SIZES.items():
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if size == "phone" else "light"
        )
        shown, asked, complaints = context.new_page(), [], []
        shown.on("request", lambda request, asked=asked: asked.append(request.url))
        shown.on("pageerror", lambda error, complaints=complaints: complaints.append(str(error)))
        shown.goto(f"{address}/runs")
        shown.get_by_role("heading", name="Two runs in words").wait_for()
        shown.locator('.stApp[data-test-script-state="notRunning"]').wait_for()
        shown.locator(".st-key-amounts .errorbar, .errorbars").first.wait_for(state="attached")
        lines = shown.locator(".st-key-lines .js-plotly-plot")
        assert lines.is_visible() == (size == "desktop")
        if size == "desktop":
            point = lines.locator(".scatterlayer .point").last.bounding_box()
            shown.mouse.move(point["x"] + 3, point["y"] + 3)
            shown.locator(".hoverlayer", has_text="a month, between").first.wait_for()
        else:
            assert shown.evaluate("document.querySelector('.stMain').scrollWidth") <= width
        shown.screenshot(path=test_artefacts / f"runs-{size}.png", full_page=True)
        assert {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))} == {
            urlsplit(address).netloc
        }
        assert complaints == []
        context.close()
