"""The command line of experiments: keys, exit codes, messages, pages."""

import json
import re
from pathlib import Path

import click
import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from ml_workbench.estimators.sequential import reach
from ml_workbench.run.cli import Workbench
from ml_workbench.run.experiments import experiment

KEYS = {
    "metric", "arm", "control", "n", "n_control", "mean", "mean_control", "lift_abs", "lift_abs_ci", "lift_rel",
    "lift_rel_ci", "p_value", "sequential_ci", "incremental_total", "incremental_total_ci", "prob_better",
    "expected_loss", "verdict",
}  # fmt: skip
COLUMNS = "--unit user --arm arm --control A"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    "A thousand users in every kind of table."
    folder, rng, count = tmp_path_factory.mktemp("experiment"), np.random.default_rng(7), 1000
    arm, before = rng.choice(["A", "B"], count), rng.gamma(2.0, 20.0, count)
    orders = rng.poisson(2.0, count)
    table = pa.table(
        {
            "user": [f"u{place}" for place in range(count)],
            "arm": arm,
            "spend": before + rng.gamma(1.0, 20.0, count) + 6.0 * (arm == "B"),
            "before": before,
            "visit": rng.integers(0, 2, count),
            "orders": orders,
            "revenue": orders * rng.gamma(3.0, 10.0, count),
            "country": rng.choice(["de", "fr"], count),
            "late": [None if place % 9 == 0 else 1.0 + place % 5 for place in range(count)],
            "twice": [f"u{place // 2}" for place in range(count)],
            "user_in_two": ["u1" if place in (int(np.argmax(arm == "A")), int(np.argmax(arm == "B"))) else f"v{place}" for place in range(count)],
        }
    )  # fmt: skip
    pq.write_table(table, folder / "units.parquet")
    pa.csv.write_csv(table.drop_columns(["late"]), folder / "units.csv")
    pq.write_table(table.filter(pa.array((arm == "B") | (rng.random(count) < 0.7))), folder / "lost.parquet")
    pq.write_table(table.slice(0, 0), folder / "empty.parquet")
    with duckdb.connect(str(folder / "units.duckdb")) as connection:
        connection.execute(f"CREATE TABLE units AS FROM '{folder / 'units.parquet'}'")
    return folder


@click.group(cls=Workbench)
def workbench() -> None:
    "As the command line of the project has it."


workbench.add_command(experiment)


def run(words: str, *more: str) -> Result:
    result = CliRunner().invoke(workbench, ["experiment", *words.split(), *more])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def as_json(result: Result) -> dict:
    return json.loads(result.stdout)


def test_the_json_has_every_key_and_no_figure_that_json_lacks(folder: Path):
    result = run(
        f"analyze {folder}/units.parquet {COLUMNS} --metric spend:mean:USD --metric visit:proportion --json",
        "--metric", "order_value=revenue/orders",
    )  # fmt: skip
    found = as_json(result)
    assert result.exit_code == 0 and found["error"] is None and found["warnings"] == []
    assert 0 <= found["srm_p_value"] <= 1
    assert [each["metric"] for each in found["results"]] == ["spend", "visit", "order_value"]
    for each in found["results"]:
        assert each.keys() >= KEYS and (each["arm"], each["control"]) == ("B", "A")
        low, high = each["lift_abs_ci"]
        assert low <= each["lift_abs"] <= high and each["sequential_ci"] is None
        assert each["verdict"] == ("higher" if low > 0 else "lower" if high < 0 else "not clear")
    assert found["results"][0]["verdict"] == "higher"
    assert found["results"][0]["lift_abs"] == pytest.approx(
        found["results"][0]["mean"] - found["results"][0]["mean_control"]
    )


@pytest.mark.parametrize(
    "source", ["{}/units.parquet", "{}/units.csv", "duckdb:///{}/units.duckdb?table=units"]
)
def test_every_source_says_the_same(folder: Path, source: str):
    words = f"{COLUMNS} --metric spend:mean:USD --covariate before --json"
    first = as_json(run(f"analyze {folder}/units.parquet {words}"))["results"]
    assert as_json(run(f"analyze {source.format(folder)} {words}"))["results"] == first


@pytest.mark.postgres
def test_a_table_of_postgresql_says_the_same(folder: Path, postgres_url: str):
    from adbc_driver_postgresql import dbapi

    with dbapi.connect(postgres_url) as connection, connection.cursor() as cursor:
        cursor.adbc_ingest("units", pq.read_table(folder / "units.parquet"))
        connection.commit()
    words = f"{COLUMNS} --metric spend:mean:USD --covariate before --segment country --json"
    expected, found = (
        as_json(run(f"analyze {source} {words}"))
        for source in (f"{folder}/units.parquet", f"{postgres_url}?table=units")
    )
    assert found["results"] == expected["results"] and found["segments"] == expected["segments"]


def test_the_same_command_prints_the_same_bytes(folder: Path):
    words = f"analyze {folder}/units.parquet {COLUMNS} --metric spend:mean:USD --covariate before --sequential --json"
    assert run(words).stdout == run(words).stdout


def test_a_person_reads_a_table_the_money_and_what_to_beware_of(folder: Path):
    result = run(
        f"analyze {folder}/units.parquet {COLUMNS} --metric spend:mean:USD --metric late --covariate before"
        " --winsorize 0.99 --sequential --segment country --cost-per-unit 2 --nulls zero"
    )
    assert result.exit_code == 0
    for said in ("higher", "The arms are as large as planned", "in all", "of cost", "any time", "by country",
                 "cut off at", "counted as zero", "adjusted for before"):  # fmt: skip
        assert said in result.stdout, said


def test_options_reach_the_figures(folder: Path):
    words = f"analyze {folder}/units.parquet {COLUMNS} --metric spend:mean:USD --json"
    [plain] = as_json(run(words))["results"]
    [strict] = as_json(run(f"{words} --alpha 0.01"))["results"]
    assert strict["lift_abs_ci"][0] < plain["lift_abs_ci"][0]
    [known] = as_json(run(f"{words} --covariate before"))["results"]
    assert known["lift_abs_ci"][0] > plain["lift_abs_ci"][0]
    [looked] = as_json(run(f"{words} --sequential --expected-units 1000"))["results"]
    half = (plain["lift_abs_ci"][1] - plain["lift_abs_ci"][0]) / 2
    wide = (looked["sequential_ci"][1] - looked["sequential_ci"][0]) / 2
    assert wide / half == pytest.approx(reach(1000, n_star=1000) / 1.962, rel=0.01)
    [paid] = as_json(run(f"{words} --cost-per-unit 2"))["results"]
    assert paid["net_total"] == pytest.approx(plain["incremental_total"] - 2 * plain["n"])


def test_a_wrong_sample_ratio_ends_with_3_and_hides_the_lift(folder: Path):
    words = f"analyze {folder}/lost.parquet {COLUMNS} --metric spend:mean:USD --metric visit:proportion"
    result, machine = run(words), run(f"{words} --json")
    assert result.exit_code == machine.exit_code == 3
    assert "No lift is shown" in result.stdout and "higher" not in result.stdout
    found = as_json(machine)
    assert found["srm_p_value"] < 0.001 and "no lift is shown" in found["error"]
    assert len(found["results"]) == 2
    for each in found["results"]:
        assert each.keys() >= KEYS
        assert {key for key, value in each.items() if value is not None} == {
            "metric",
            "arm",
            "control",
            "n",
            "n_control",
        }
    assert run(f"{words} --split A=0.41 --split B=0.59").exit_code == 0


def test_a_split_that_was_not_kept_ends_with_3(folder: Path):
    result = run(
        f"analyze {folder}/units.parquet {COLUMNS} --metric visit:proportion --split A=0.9 --split B=0.1"
    )
    assert result.exit_code == 3 and "should hold 100 of 1,000" in result.stdout


def test_a_unit_in_two_arms_ends_with_3(folder: Path):
    words = (
        f"analyze {folder}/units.parquet --unit user_in_two --arm arm --control A --metric spend:mean --json"
    )
    result = run(words)
    assert (
        result.exit_code == 3 and "1 unit is in more than one arm, for example u1" in as_json(result)["error"]
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("{}/units.parquet " + COLUMNS + " --metric spent:mean", "no column 'spent', did you mean 'spend'?"),
        ("{}/units.parquet " + COLUMNS + " --metric spend:meen", "did you mean 'mean'?"),
        ("{}/units.parquet --unit usr --arm arm --control A --metric spend", "did you mean 'user'?"),
        ("{}/units.parquet --unit user --arm arm --control C --metric spend", "'C' does not occur in column 'arm', known: A, B"),
        ("{}/units.parquet --unit twice --arm country --control de --metric spend --split de=0.4", "the split must sum to 1"),
        ("{}/units.parquet " + COLUMNS + " --metric late", "'late' is NULL in 112 of 1,000 rows; say with --nulls"),
        ("{}/units.parquet " + COLUMNS + " --metric country", "'country' is VARCHAR, not a number"),
        ("{}/units.parquet " + COLUMNS + " --metric spend:proportion", "neither 0 nor 1"),
        ("{}/units.parquet " + COLUMNS + " --metric spend --alpha 2", "alpha must lie between"),
        ("{}/units.parquet " + COLUMNS + " --metric spend --cost-per-unit 1", "name the currency"),
        ("{}/empty.parquet " + COLUMNS + " --metric spend", "the table is empty"),
        ("{}/unit.parquet " + COLUMNS + " --metric spend", "no such file, did you mean 'units.parquet'?"),
        ("duckdb:///{}/units.duckdb?table=unit " + COLUMNS + " --metric spend", "did you mean 'units'?"),
        ("postgresql://me:sesame@127.0.0.1:1/shop?table=x " + COLUMNS + " --metric spend", "cannot reach database 'shop'"),
    ],
)  # fmt: skip
def test_bad_input_ends_with_2_and_one_line_for_a_person_and_json_for_a_program(
    folder: Path, words: str, said: str
):
    result = run(f"analyze {words.format(folder)} --json")
    assert result.exit_code == 2
    assert said in result.stderr and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    found = as_json(result)
    assert said in found["error"] and found["results"] == [] and found["srm_p_value"] is None
    assert "sesame" not in result.output
    assert run(f"analyze {words.format(folder)}").stdout == ""


def test_a_missing_option_ends_with_2(folder: Path):
    assert run(f"analyze {folder}/units.parquet {COLUMNS}").exit_code == 2


def test_the_page_is_one_file_that_fetches_nothing_and_a_stop_shows_no_lift(folder: Path, tmp_path: Path):
    words = f"{COLUMNS} --metric spend:mean:USD --metric visit:proportion --segment country --html"
    assert run(f"analyze {folder}/units.parquet {words} {tmp_path}/good.html").exit_code == 0
    assert run(f"analyze {folder}/lost.parquet {words} {tmp_path}/stopped.html").exit_code == 3
    good, stopped = ((tmp_path / name).read_text() for name in ("good.html", "stopped.html"))
    assert "<svg" in good and "Spend of B is higher" in good and "default-src 'none'" in good
    assert not re.search(r"(src|href)=\"(?!data:)|@import|<script", good)
    assert "No lift is shown" in stopped and "<svg" not in stopped and "$" not in stopped


def test_a_page_that_cannot_be_written_ends_with_2(folder: Path, tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    words = f"analyze {folder}/units.parquet {COLUMNS} --metric spend:mean --html {tmp_path}/file/page.html"
    result = run(words)
    assert result.exit_code == 2 and "cannot write" in result.stderr


@pytest.mark.slow
def test_the_page_draws_in_a_browser(folder: Path, tmp_path: Path, browser):
    run(f"analyze {folder}/units.parquet {COLUMNS} --metric spend:mean:USD --html {tmp_path}/page.html")
    page = browser.new_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "page.html").as_uri())
    assert (
        page.locator("svg circle").count() == 1
        and page.locator("h1").inner_text() == "What the experiment says"
    )
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    page.close()


def test_a_plan_reaches_the_published_figures():
    words = (
        "plan --metric visit:proportion --mean 0.1441 --lift 0.2 --units-per-week 2195 --relative-test --json"
    )
    found = as_json(run(words))
    first = found["weeks"][0]
    assert first["power"] == pytest.approx(0.413, abs=5e-4) and first["mde_relative"] == pytest.approx(
        0.3455, abs=5e-5
    )
    assert found["reached"] == 3 and found["error"] is None


def test_a_plan_without_arrivals_gives_the_sample_alone():
    found = as_json(run("plan --mean 0 --sd 1 --effect 0.2 --json"))
    assert found["needed"]["control"] == pytest.approx(393.41, abs=5e-3) and found["weeks"] == []
    assert "788 units are needed" in run("plan --mean 0 --sd 1 --effect 0.2").stdout


def test_a_plan_from_a_table_knows_what_covariates_are_worth(folder: Path):
    words = f"plan {folder}/units.parquet --metric spend:mean:USD --lift 0.05 --units-per-week 500 --json"
    plain, known = as_json(run(words)), as_json(run(f"{words} --covariate before"))
    assert known["cuped_gain"] > 0.5 and plain["cuped_gain"] == 0
    assert known["needed"]["total"] == pytest.approx(
        plain["needed"]["total"] * (1 - known["cuped_gain"]), rel=0.01
    )
    ratio = as_json(run(f"plan {folder}/units.parquet --lift 0.1 --json", "--metric", "value=revenue/orders"))
    assert ratio["metric"] == "value" and ratio["needed"]["total"] > 100


def test_more_arms_more_looks_and_unequal_shares_cost_units():
    words = "plan --mean 10 --sd 20 --lift 0.1 --json"
    base = as_json(run(words))["needed"]["total"]
    for more in (
        "--arms 4",
        "--looks 7",
        "--split control=0.9 --split offer=0.1",
        "--power 0.95",
        "--alpha 0.01",
    ):
        assert as_json(run(f"{words} {more}"))["needed"]["total"] > 1.2 * base


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--mean 10 --sd 20", "which effect is worth finding"),
        ("--mean 10 --sd 20 --lift 0.1 --effect 1", "which effect is worth finding"),
        ("--lift 0.1", "name a table of units"),
        ("--metric spend:mean --mean 10 --lift 0.1", "sd is missing"),
        ("--metric visit:proportion --mean 14 --lift 0.1", "between 0 and 1"),
        ("--mean 10 --sd 20 --lift 0.1 --arms 1", "two arms at least"),
        ("--mean 10 --sd 20 --lift 0.1 --covariate before", "need a table"),
        ("--mean 10 --sd 20 --lift 0.1 --split a=0.5 --split b=0.2", "must sum to 1"),
        ("nowhere.csv --metric spend --lift 0.1", "no such file"),
        ("nowhere.csv --metric spend --mean 3 --lift 0.1", "leave them out"),
        ("--mean 10 --sd 20 --lift 0", "effect of nought|too small"),
    ],
)
def test_a_plan_that_makes_no_sense_ends_with_2(words: str, said: str):
    result = run(f"plan {words} --json")
    assert result.exit_code == 2 and re.search(said, result.stderr)
    assert re.search(said, as_json(result)["error"])


def test_help_shows_an_example_for_every_command():
    for command in ("analyze", "plan"):
        assert "Example: ml-workbench experiment" in " ".join(run(f"{command} --help").stdout.split())
