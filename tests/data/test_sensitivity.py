"""Columns about people: found behind whatever name, formula or star they come, and kept where they belong."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_workbench.data import definitions
from ml_workbench.data.contracts import Column, Table
from ml_workbench.data.declarations import Attribute, Derived, Feature, FeatureSet, Relation
from ml_workbench.data.sensitivity import behind, breaches, project_breaches, shareable, traces
from ml_workbench.data.tables import TABLES as DEFAULT
from ml_workbench.plan.errors import ContractError, FeatureError
from ml_workbench.plan.params import load_params

WHO = Column("member", "BIGINT", sensitivity="identifier")
TABLES = (
    Table("people", "Members", (WHO, Column("age", "INTEGER", sensitivity="sensitive"), Column("home", "VARCHAR", sensitivity="personal"), Column("town", "VARCHAR"))),
    Table("orders", "Orders", (WHO, Column("amount", "DOUBLE"), Column("town", "VARCHAR"), Column("at", "TIMESTAMP"))),
)  # fmt: skip
ORDERS = Relation("orders", "SELECT member, amount, town, at AS time FROM orders", "")


def relation(sql: str, *, time: str | None = "time") -> Relation:
    return Relation("r", sql, "", time)


def declared(sql: str, expression: str = "SUM(x)", **others: object) -> FeatureSet:
    "One feature over one relation, beside an honest one."
    return FeatureSet(
        "member",
        (ORDERS, relation(sql)),
        (Feature("f", expression, "r", 28, "", "habits"), Feature("spend", "SUM(amount)", "orders", 28, "", "money")),
        **others,
    )  # fmt: skip


def reached(made: FeatureSet) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for each in traces(made, TABLES):
        found.setdefault(each.feature, set()).add(each.column)
    return found


HIDDEN = {
    "an alias": "SELECT member, at AS time, age AS x FROM orders JOIN people USING (member)",
    "an alias of an alias": "SELECT member, time, y AS x FROM (SELECT member, at AS time, age AS y FROM orders JOIN people USING (member)) AS inner_one",
    "a star": "SELECT o.member, o.at AS time, p.* EXCLUDE (member, town, home), p.age AS x FROM orders AS o JOIN people AS p ON p.member = o.member",
    "a star of a subquery": "SELECT *, bonus AS x FROM (SELECT o.member, o.at AS time, p.age * 2 AS bonus FROM orders AS o JOIN people AS p ON p.member = o.member) AS s",
    "a common table": "WITH p AS (SELECT member, age AS a FROM people), q AS (SELECT member, a + 1 AS b FROM p) SELECT o.member, o.at AS time, q.b AS x FROM orders AS o JOIN q ON q.member = o.member",
    "a formula": "SELECT member, at AS time, amount * CASE WHEN age < 30 THEN 2 ELSE 1 END AS x FROM orders JOIN people USING (member)",
    "a union": "SELECT member, at AS time, amount AS x FROM orders UNION ALL SELECT o.member, o.at, p.age FROM orders AS o JOIN people AS p ON p.member = o.member",
    "a window": "SELECT o.member, o.at AS time, SUM(o.amount) OVER (PARTITION BY p.age) AS x FROM orders AS o JOIN people AS p ON p.member = o.member",
    "a scalar subquery": "SELECT member, at AS time, (SELECT MAX(age) FROM people AS p WHERE p.member = orders.member) AS x FROM orders",
    "a condition": "SELECT o.member, o.at AS time, o.amount AS x FROM orders AS o JOIN people AS p ON p.member = o.member WHERE p.age >= 65",
    "a join": "SELECT o.member, o.at AS time, o.amount AS x FROM orders AS o JOIN people AS p ON p.member = o.member AND p.age >= 65",
    "an IN": "SELECT member, at AS time, amount AS x FROM orders WHERE member IN (SELECT member FROM people WHERE age > 40)",
    "an EXISTS": "SELECT member, at AS time, amount AS x FROM orders WHERE EXISTS (SELECT 1 FROM people AS p WHERE p.member = orders.member AND p.age > 40)",
    "a grouping": "SELECT o.member, MAX(o.at) AS time, SUM(o.amount) AS x FROM orders AS o JOIN people AS p ON p.member = o.member GROUP BY o.member, p.age",
    "a grouping by place": "SELECT p.age, o.member, MAX(o.at) AS time, SUM(o.amount) AS x FROM orders AS o JOIN people AS p ON p.member = o.member GROUP BY 1, 2",
    "a DISTINCT": "SELECT DISTINCT o.member, o.at AS time, 1 AS x, p.age FROM orders AS o JOIN people AS p ON p.member = o.member",
    "the first rows": "SELECT o.member, o.at AS time, o.amount AS x FROM orders AS o JOIN people AS p ON p.member = o.member ORDER BY p.age LIMIT 100",
    "the time": "SELECT o.member, o.at + p.age * INTERVAL '1' DAY AS time, o.amount AS x FROM orders AS o JOIN people AS p ON p.member = o.member",
    "capital letters": "SELECT O.MEMBER AS member, O.AT AS time, P.AGE AS X FROM ORDERS AS O JOIN PEOPLE AS P ON P.MEMBER = O.MEMBER",
    "a lateral name": "SELECT member, at AS time, age AS y, y * 2 AS x FROM orders JOIN people USING (member)",
    "a whole row": "SELECT member, at AS time, hash(p) AS x FROM orders JOIN people AS p USING (member)",
    "a pivot": "SELECT member, at AS time, x FROM (SELECT member, at, age, amount FROM orders JOIN people USING (member)) PIVOT (SUM(amount) AS x FOR age IN (20 AS x))",
}  # fmt: skip


@pytest.mark.parametrize("way", HIDDEN)
def test_a_sensitive_column_is_found_behind(way):
    found = reached(declared(HIDDEN[way]))
    assert "people.age" in found["f"], way
    assert "spend" not in found


HONEST = {
    "a join by who it is": "SELECT o.member, o.at AS time, p.town = o.town AS x FROM orders AS o JOIN people AS p ON p.member = o.member",
    "a window by who it is": "SELECT member, LAG(at) OVER (PARTITION BY member ORDER BY at) AS time, amount AS x FROM orders",
    "a star without what is said": "SELECT member, at AS time, 1 AS x, p.* EXCLUDE (age, home, member) FROM orders JOIN people AS p USING (member)",
    "a column of a star that nobody uses": "SELECT o.member, o.at AS time, o.amount AS x, p.age FROM orders AS o JOIN people AS p ON p.member = o.member",
    "a count of members": "SELECT member, at AS time, COUNT(DISTINCT member) OVER (PARTITION BY town) AS x FROM orders",
    "another column of the same name": "SELECT o.member, o.at AS time, o.town AS x FROM orders AS o",
}  # fmt: skip


@pytest.mark.parametrize("way", HONEST)
def test_nothing_is_found_in(way):
    assert reached(declared(HONEST[way], "COUNT(x)")) == {}


def test_a_filter_or_an_argument_of_the_feature_itself_is_seen():
    sql = "SELECT o.member, o.at AS time, o.amount AS x, p.age, p.home FROM orders AS o JOIN people AS p ON p.member = o.member"
    assert reached(declared(sql, "SUM(x) FILTER (WHERE age > 40)"))["f"] == {"people.age"}
    assert reached(declared(sql, "SUM(x * age) / COUNT(DISTINCT home)"))["f"] == {"people.age", "people.home"}


def test_who_it_is_may_be_counted_and_not_carried():
    sql = "SELECT member, at AS time, member AS x FROM orders"
    assert reached(declared(sql, "COUNT(DISTINCT x)")) == {}
    assert reached(declared(sql, "MAX(x) % 100"))["f"] == {"orders.member"}


def test_a_feature_derived_from_a_derived_feature_carries_what_they_carry():
    sql = "SELECT o.member, o.at AS time, p.age AS x FROM orders AS o JOIN people AS p ON p.member = o.member"
    made = declared(sql, "AVG(x)", derived=(
        Derived("d3", "d2 + spend", "", "money"), Derived("d1", "f * 2", "", "money"),
        Derived("d2", "d1 / nullif(spend, 0)", "", "money"), Derived("honest", "spend * 2", "", "money"),
    ))  # fmt: skip
    assert {name for name in reached(made)} == {"f", "d1", "d2", "d3"}
    way = {each.feature: each.through for each in traces(made, TABLES)}
    assert way == {"f": "relation r", "d1": "feature f", "d2": "feature d1", "d3": "feature d2"}


def test_an_attribute_under_another_name_is_found():
    made = FeatureSet(
        "member",
        (ORDERS, Relation("known", "SELECT * FROM people", "", None)),
        (Feature("spend", "SUM(amount)", "orders", 28, "", "money"),),
        attributes=(
            Attribute("segment", "upper(home)", "known", "", "habits"),
            Attribute("place", "town", "known", "", "habits"),
        ),
    )
    assert reached(made) == {"segment": {"people.home"}}


def test_a_table_or_a_file_that_nobody_declared_cannot_be_followed():
    with pytest.raises(FeatureError, match=r"relation 'r'.*'poeple'.*not declared, did you mean 'people'"):
        behind(relation("SELECT member, age AS x FROM poeple"), TABLES)
    with pytest.raises(FeatureError, match="relation 'r'"):
        behind(relation("SELECT * FROM read_parquet('people.parquet')"), TABLES)
    with pytest.raises(FeatureError, match=r"relation 'r'.*cannot be followed"):
        behind(relation("SELECT FROM WHERE"), TABLES)


def test_a_query_that_calls_itself_ends():
    sql = "WITH RECURSIVE n AS (SELECT member, age AS a FROM people UNION ALL SELECT member, a + 1 FROM n WHERE a < 99) SELECT member, a AS x FROM n"
    assert "people.age" in behind(relation(sql), TABLES).of("x")


NAMES = st.sampled_from(["a", "b", "years", "town", "amount", "bonus"])


@given(st.lists(NAMES, min_size=1, max_size=5), st.booleans())
def test_however_often_a_column_is_renamed_it_is_found(names, common):
    "Each step selects the column under another name, from a subquery or a common table."
    sql, column = "SELECT member, age FROM people", "age"
    for number, name in enumerate(names):
        step = f"s{number}"
        sql = (
            f"WITH {step} AS ({sql}) SELECT member, {column} AS {name} FROM {step}"
            if common else f"SELECT member, {column} AS {name} FROM ({sql}) AS {step}"
        )  # fmt: skip
        column = name
    assert behind(relation(sql, time=None), TABLES).of(column) == {"people.age"}


SEEN = {"is seen by candidates": ["f", "spend"]}
AGED = "SELECT o.member, o.at AS time, p.age AS x FROM orders AS o JOIN people AS p ON p.member = o.member"


def test_the_message_names_column_feature_way_and_what_can_be_done():
    (line,) = breaches(declared(AGED), TABLES, SEEN, {})
    assert line.startswith(
        "feature 'f' is seen by candidates and carries people.age, which is sensitive (through relation r)"
    )
    assert "withhold its family 'habits' (train.withheld_families)" in line and "privacy.allowed" in line


def test_what_is_allowed_by_name_passes_and_only_that():
    assert breaches(declared(AGED), TABLES, SEEN, {"people.age": "an insurance"}) == []
    assert len(breaches(declared(AGED), TABLES, SEEN, {"people.home": "deliveries"})) == 1


def test_an_allowance_that_means_nothing_is_told():
    (line,) = breaches(declared(AGED), TABLES, {}, {"people.agee": "a slip"})
    assert "'people.agee' is no column about people, did you mean 'people.age'?" in line
    assert len(breaches(declared(AGED), TABLES, {}, {"people.town": "not needed"})) == 1


def test_a_feature_that_nobody_sees_is_no_breach():
    assert breaches(declared(AGED), TABLES, {"is seen by candidates": ["spend"]}, {}) == []


def test_what_leaves_declares_nothing_about_people_and_computes_the_rest_as_before():
    made = declared(
        AGED, derived=(Derived("d", "f + spend", "", "money"), Derived("e", "spend * 2", "", "money"))
    )
    left = shareable(made, TABLES)
    assert [each.name for each in left.columns] == ["spend", "e"] and [
        each.name for each in left.relations
    ] == ["orders"]
    assert traces(left, TABLES) == ()
    assert shareable(left, TABLES) == left
    assert shareable(made, TABLES, {"people.age": "an insurance"}) == made


def test_the_default_declaration_leaves_without_demographics():
    whole = definitions.declare()
    left = shareable(whole, DEFAULT)
    assert {each.name for each in whole.columns} - {each.name for each in left.columns} == {
        each.name for each in whole.attributes
    }
    assert "demographics" not in {each.name for each in left.relations} and left.labels == whole.labels


def test_every_column_of_the_default_tables_that_names_or_describes_a_household_says_so():
    levels = {(table.name, column.name): column.sensitivity for table in DEFAULT for column in table.columns}
    assert all(level == "identifier" for (_, name), level in levels.items() if name == "household_id")
    assert all(level != "none" for (table, _), level in levels.items() if table == "demographics")


@pytest.fixture(scope="module")
def params(root):
    return load_params(root)


def with_section(params, name, **values):
    return params.model_copy(update={name: getattr(params, name).model_copy(update=values)})


def test_the_project_as_it_is_keeps_to_its_word(params):
    assert project_breaches(params) == []


def test_a_family_that_is_withheld_no_longer_is_found(params):
    lines = project_breaches(with_section(params, "train", withheld_families=[]))
    assert len(lines) == 7 and "demographics.age, which is sensitive" in lines[0]


@pytest.mark.parametrize("name", ["covariates", "segments"])
def test_withholding_a_family_does_not_let_it_into_the_records(params, name):
    lines = project_breaches(with_section(params, "experiment", **{name: ["income"]}))
    assert len(lines) == 1 and "is recorded with every unit" in lines[0] and "demographics.income" in lines[0]


def test_the_rule_may_not_go_by_it_either(params):
    baseline = params.charter.baseline.model_copy(update={"feature": "household_size"})
    (line,) = project_breaches(with_section(params, "charter", baseline=baseline))
    assert "decides for the rule" in line and "demographics.household_size, which is personal" in line


def test_an_allowance_of_the_project_holds(params):
    shown = with_section(params, "train", withheld_families=[])
    allowed = {"demographics.household_size": "the parcel must fit"}
    lines = project_breaches(with_section(shown, "privacy", allowed=allowed))
    assert len(lines) == 6 and not any("household_size" in line.split(",")[0] for line in lines)


def test_a_feature_that_is_made_of_a_withheld_one_is_found_in_the_default_declaration():
    whole = definitions.declare()
    sly = Derived("loyalty_score", "spend_12w * CASE WHEN age = '65+' THEN 2 ELSE 1 END", "", "money")
    lines = breaches(
        replace(whole, derived=(*whole.derived, sly)),
        DEFAULT,
        {"is seen by candidates": ["loyalty_score"]},
        {},
    )
    assert len(lines) == 1 and "demographics.age" in lines[0] and "through feature age" in lines[0]


def test_a_sensitivity_that_does_not_exist_is_refused_with_the_closest():
    with pytest.raises(
        ContractError, match="column 'age': unknown sensitivity 'sensitiv', did you mean 'sensitive'"
    ):
        Column("age", "INTEGER", sensitivity="sensitiv")
