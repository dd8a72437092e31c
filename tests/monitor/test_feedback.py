"""What people know better: written once, all of it or nothing, and used in the next training."""

import json
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.data.corrections import corrections_in
from ml_workbench.database.connections import address, connected, transaction
from ml_workbench.database.tables import table_of
from ml_workbench.monitor.feedback import Taken, feedback_of, for_training, read_feedback, rows_of, take
from ml_workbench.plan.errors import MonitorError
from ml_workbench.plan.files import write_json
from ml_workbench.run.cli import cli

MONDAY = datetime(2017, 12, 4, 5)
NOW = datetime(2026, 11, 23, 6)
KNOWN = {"d1": ("7", MONDAY), "d2": ("8", MONDAY)}


def served(engine, *names: str) -> None:
    "Decisions on record."
    rows = [
        {"decision_id": name, "at": NOW, "unit": KNOWN[name][0], "as_of": KNOWN[name][1], "line": 1, "experiment": "", "arm": None, "propensity": 1.0,
         "reason": "assigned", "release": "a" * 64, "policy": "proposed", "score": 0.5, "value": 1.0, "action": "none", "features_hash": "", "channel": "rest"}
        for name in names
    ]  # fmt: skip
    with transaction(engine) as connection:
        connection.execute(sa.insert(table_of("served")), rows)


@pytest.fixture
def engine(engine):
    "The records, with decisions in them."
    served(engine, *KNOWN)
    return engine


def test_a_correction_comes_back_as_it_went_in(engine):
    assert take(engine, [{"decision_id": "d1", "label": 0, "note": "moved"}], author="Ada", now=NOW) == Taken(
        1, 0
    )
    (found,) = read_feedback(engine)
    assert (found.unit, found.as_of, found.label, found.note, found.author, found.at) == (
        "7",
        MONDAY,
        0.0,
        "moved",
        "Ada",
        NOW,
    )


def test_the_same_again_is_no_second_one_and_another_content_under_its_key_is_refused(engine):
    row = {"decision_id": "d1", "label": 0}
    take(engine, [row], author="Ada", now=NOW)
    assert take(engine, [row], author="Ada", now=NOW + timedelta(days=1)) == Taken(0, 1)
    with pytest.raises(MonitorError, match="stands for something else already: label 0 of unit '7' by Ada"):
        take(engine, [{"decision_id": "d2", "label": 1}, row | {"label": 1}], author="Ada", now=NOW)
    assert len(read_feedback(engine)) == 1, "nothing of it was written"
    assert take(engine, [row | {"label": 1, "key": "second thoughts"}], author="Ada", now=NOW) == Taken(1, 0)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"decision_id": "d9", "label": 1},
            "row 2: decision 'd9' is not in the records; nothing was written",
        ),
        ({"decision_id": "d1", "label": 1.01}, "label 1.01 is not between 0 and 1"),
        ({"decision_id": "d1", "label": -0.5}, "label -0.5 is not between 0 and 1"),
        ({"decision_id": "d1", "label": "yes"}, "label 'yes' is no number"),
        ({"decision_id": "d1", "label": 1, "author": " "}, "the author is missing"),
        ({"decision_id": "d1", "author": "Ada"}, "neither a label nor a note"),
        ({"label": 1, "author": "Ada"}, "neither a decision"),
        ({"unit": "7", "as_of": "soon", "label": 1, "author": "Ada"}, "as_of 'soon' is no time"),
        ({"unit": "7", "as_of": "2017-12-04T05:00Z", "label": 1, "author": "Ada"}, "names a time zone"),
        ({"decision_id": "d1", "unit": "8", "label": 1, "author": "Ada"}, "is about unit '7'"),
        ({"decision": "d1", "label": 1}, "no column 'decision', did you mean 'decision_id'"),
    ],
)
def test_one_wrong_row_is_told_and_nothing_is_written(engine, row, message):
    with pytest.raises(MonitorError, match=message):
        take(engine, [{"decision_id": "d2", "label": 1, "author": "Ada"}, row], now=NOW)
    assert read_feedback(engine) == []


def test_two_rows_of_one_file_that_contradict_each_other_are_told(engine):
    with pytest.raises(MonitorError, match="row 2: key 'k' stands for something else"):
        take(
            engine,
            [{"decision_id": "d1", "label": label, "key": "k"} for label in (0, 1)],
            author="Ada",
            now=NOW,
        )


def test_a_decision_that_waits_in_the_spool_can_be_corrected(engine):
    waiting = {"d7": {"unit": "3", "as_of": "2017-12-04 05:00:00.000000"}}.get
    assert take(engine, [{"decision_id": "d7", "label": 1}], author="Ada", waiting=waiting, now=NOW) == Taken(
        1, 0
    )


def test_a_unit_and_a_time_will_do_without_a_decision(engine):
    take(engine, [{"unit": "99", "as_of": "2017-12-04 05:00", "label": 1}], author="Ada", now=NOW)
    assert read_feedback(engine)[0].decision_id is None


def test_two_imports_of_the_same_at_once_write_it_once(engine):
    rows, done, barrier = (
        [{"unit": str(place), "as_of": MONDAY, "label": 1} for place in range(200)],
        [],
        threading.Barrier(3),
    )

    def work() -> None:
        barrier.wait()
        done.append(take(engine, rows, author="Ada", now=NOW))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert sum(each.new for each in done) == 200 and len(read_feedback(engine)) == 200


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_is_taken_whole(engine, tmp_path, kind):
    path = tmp_path / f"corrections.{kind}"
    rows = [
        {"decision_id": "d1", "label": 0.0, "note": "moved", "author": "Ada"},
        {"decision_id": "d2", "label": None, "note": "asked, kindly", "author": "Bob"},
    ]
    if kind == "csv":
        path.write_text('decision_id,label,note,author\nd1,0,moved,Ada\nd2,,"asked, kindly",Bob\n')
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    assert take(engine, rows_of(path), now=NOW) == Taken(2, 0)
    assert sorted((each.author, each.label, each.note) for each in read_feedback(engine)) == [
        ("Ada", 0.0, "moved"),
        ("Bob", None, "asked, kindly"),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "label\n1,2\n", "more cells than there are columns"),
        ("x.xlsx", "", "neither a .csv nor a .parquet"),
        ("x.parquet", "PAR", "cannot be read"),
        ("none.csv", None, "No such file"),
    ],
)
def test_a_file_that_is_none_is_told(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(MonitorError, match=message):
        rows_of(tmp_path / name)


def test_the_newest_label_of_a_unit_and_time_counts_and_notes_do_not(engine, tmp_path):
    for day, (label, who) in enumerate([(0, "Ada"), (1, "Bob"), (None, "Cleo")]):
        take(
            engine,
            [{"decision_id": "d1", "label": label, "note": "because"}],
            author=who,
            now=NOW + timedelta(days=day),
        )
    write_json(tmp_path / "corrections.json", for_training(read_feedback(engine)))
    (found,) = corrections_in(tmp_path / "corrections.json")
    assert (found.unit, found.as_of, found.label, found.author) == ("7", MONDAY, 1.0, "Bob")
    assert "because" not in (tmp_path / "corrections.json").read_text()


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0, 0.5]), st.sampled_from(["Ada", "Bob"])),
        max_size=12,
    )
)
def test_the_export_holds_each_unit_and_time_once_in_a_fixed_order(rows):
    given_rows = [
        {"unit": unit, "as_of": MONDAY, "label": label, "author": who, "key": str(place)}
        for place, (unit, label, who) in enumerate(rows)
    ]
    made = [feedback_of(each, {}, now=NOW) for each in given_rows]
    told = for_training(made)["corrections"]
    assert [each["unit"] for each in told] == sorted({unit for unit, _, _ in rows})
    assert {each["unit"]: each["label"] for each in told} == {unit: label for unit, label, _ in rows}


# The command -----------------------------------------------------------------------------------------------


def call(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["feedback", *arguments])
    assert done.exit_code == code, done.output
    return done.output


def test_the_command_takes_lists_and_exports(tmp_path, monkeypatch, root):
    monkeypatch.chdir(tmp_path)
    for name in ("params.yaml", "settings.ini"):
        (tmp_path / name).write_bytes((root / name).read_bytes())
    assert call("list") == "Nobody has corrected anything.\n"
    engine = connected(address("sqlite:///state/workbench.db", root=tmp_path))
    served(engine, "d1", "d2")
    engine.dispose()
    assert call("add", "d1", "--label", "0", "--note", "moved", "--by", "Ada") == "1 written\n"
    assert (
        call("add", "d1", "--label", "0", "--note", "moved", "--by", "Ada")
        == "0 written, 1 were there already\n"
    )
    assert "decision 'd9' is not in the records" in call("add", "d9", "--label", "0", "--by", "Ada", code=1)
    Path("more.csv").write_text("decision_id,label\nd2,1\n")
    assert "the author is missing" in call("import", "more.csv", code=1)
    assert call("import", "more.csv", "--by", "Bob") == "1 written\n"
    assert "Ada: label 0 of 7 as of 2017-12-04 05:00, decision d1; moved" in call("list")
    assert [each["unit"] for each in json.loads(call("list", "--json"))] == ["7", "8"]
    assert call("export") == "reports/corrections.json holds 2 corrected labels\n"
    assert [each.label for each in corrections_in("reports/corrections.json")] == [0.0, 1.0]


def test_outside_a_project_nothing_is_exported(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "run this in the project" in call("export", code=1)
