"""What a stage notebook and params.yaml must agree on before and after a run."""

import pytest

from ml_workbench.plan.errors import StageError
from ml_workbench.run.truth import (
    TAG,
    Cell,
    contradictions,
    declared_parameters,
    disagreements,
    probe,
    read_cells,
    with_defaults,
)

SECTION = {"seed": 1, "share": 0.5, "names": ["a", "b"], "quick": False}
FITTING = "seed: int = 1\nshare: float = 0.5\nnames: list[str] = ['a', 'b']\nquick: bool = False"


def cell(source: str, number: int = 2, tags: tuple[str, ...] = (TAG,)) -> Cell:
    return Cell(number, "code", source, tags, 0)


def lines(*cells: Cell, section: dict | None = None, **options: bool) -> list[str]:
    return disagreements(cells, section or SECTION, stage="train", place="train.ipynb", **options)


def test_a_notebook_that_fits_its_section_is_accepted() -> None:
    assert lines(cell(FITTING)) == []


def test_a_notebook_without_the_tag_is_refused() -> None:
    assert lines(cell(FITTING, tags=())) == [
        "train.ipynb: no cell is tagged 'parameters'; tag the one that holds the parameters"
    ]


def test_two_tagged_cells_are_refused_with_their_numbers() -> None:
    (line,) = lines(cell(FITTING, 2), cell(FITTING, 5))
    assert "cells 2, 5" in line


def test_a_misspelt_parameter_is_named_twice_as_unknown_and_as_missing() -> None:
    unknown, missing = lines(cell(FITTING.replace("seed", "sed")))
    assert "cell 2: 'sed' is not in params.yaml" in unknown and "did you mean 'seed'?" in unknown
    assert "lacks 'seed'" in missing and "add `seed: int = 1`" in missing


def test_an_extra_parameter_is_refused() -> None:
    (line,) = lines(cell(FITTING + "\ndepth: int = 3"))
    assert "'depth' is not in params.yaml, section train" in line


def test_a_parameter_declared_twice_is_refused() -> None:
    assert any("'seed' is declared twice" in line for line in lines(cell(FITTING + "\nseed: int = 1")))


def test_a_default_that_differs_is_refused_outside_experiments_only() -> None:
    other = cell(FITTING.replace("seed: int = 1", "seed: int = 2"))
    (line,) = lines(other)
    assert "'seed: int = 2', but train.seed in params.yaml is 1" in line
    assert lines(other, defaults=False) == []


@pytest.mark.parametrize("value", [1.0, True, "1", None, [1]])
def test_a_value_of_another_type_is_refused_even_when_it_is_equal(value: object) -> None:
    (line,) = lines(cell(FITTING), section=SECTION | {"seed": value})
    assert "'seed' is declared int, but train.seed is" in line


def test_a_whole_number_is_not_a_float() -> None:
    (line,) = lines(cell(FITTING.replace("0.5", "1")))
    assert "'share' is declared float, but its default is 1" in line


def test_the_elements_of_a_list_are_checked() -> None:
    (line,) = lines(cell(FITTING), section=SECTION | {"names": ["a", 2]})
    assert "'names' is declared list[str]" in line


def test_without_annotation_the_literal_gives_the_type() -> None:
    assert lines(cell(FITTING.replace("seed: int", "seed"))) == []
    (line,) = lines(cell(FITTING.replace("seed: int", "seed")), section=SECTION | {"seed": 1.5})
    assert "declared int" in line


def test_an_annotation_that_yaml_does_not_know_is_refused() -> None:
    (line,) = lines(cell(FITTING.replace("seed: int", "seed: Count")))
    assert "has the type Count; use one of int" in line


def test_optional_and_nested_types_are_understood() -> None:
    source = "limit: int | None = None\nshares: dict[str, float] = {'a': 0.5}"
    assert lines(cell(source), section={"limit": None, "shares": {"a": 0.5}}) == []
    assert lines(cell(source), section={"limit": "none", "shares": {"a": 0.5}}, defaults=False)


@pytest.mark.parametrize("line", ["total = 2 * 3", "import os", "print(1)", "a = b = 1", "x: int"])
def test_nothing_is_computed_in_the_parameters_cell(line: str) -> None:
    with pytest.raises(StageError, match="line 1 is not of the form 'name: type = literal'"):
        declared_parameters(cell(line))


@pytest.mark.parametrize(
    "later", ["seed = 3", "seed += 1", "import os as seed", "for seed in (): pass", "del seed"]
)
def test_giving_a_parameter_another_value_later_is_refused(later: str) -> None:
    (line,) = lines(cell(FITTING), cell(later, 7, ()))
    assert line == "train.ipynb, cell 7: gives parameter 'seed' another value; use another name"


def test_using_a_parameter_as_an_argument_is_fine() -> None:
    assert lines(cell(FITTING), cell("dict(seed=seed)\n[seed for _ in range(2)]", 7, ())) == []


def test_a_cell_that_is_not_python_is_named() -> None:
    (line,) = lines(cell(FITTING), cell("x = (\n", 3, ()))
    assert line.startswith("train.ipynb, cell 3: not plain Python, line 1")


def test_a_file_that_is_no_notebook_is_refused(tmp_path) -> None:
    path = tmp_path / "train.ipynb"
    with pytest.raises(StageError, match="does not exist"):
        read_cells(path)
    path.write_text("{}")
    with pytest.raises(StageError, match="is not a notebook"):
        read_cells(path)


def test_the_probe_tells_what_the_notebook_holds_at_the_end(capsys) -> None:
    exec(FITTING + "\nnames.append('c')\n" + probe(SECTION))
    printed = capsys.readouterr().out
    assert contradictions(printed, SECTION, "train") == [
        "train.names is ['a', 'b'] in params.yaml, the notebook ran with ['a', 'b', 'c']"
    ]
    assert contradictions(repr(SECTION), SECTION, "train") == []


def test_a_value_that_is_equal_but_of_another_type_is_a_contradiction() -> None:
    assert contradictions(repr(SECTION | {"seed": 1.0}), SECTION, "train")
    assert contradictions("{'seed': array([1])}", SECTION, "train")


def test_defaults_are_rewritten_and_nothing_else() -> None:
    source = "# how\nseed: int = 1  # ünïcode → fine\nnames: list[str] = [\n    'a',\n    'b',\n]  # both\nquick = False"
    changed = with_defaults(source, {"seed": 9, "names": ["c"], "quick": False})
    assert (
        changed == "# how\nseed: int = 9  # ünïcode → fine\nnames: list[str] = ['c']  # both\nquick = False"
    )
