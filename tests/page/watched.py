"""Reports of the monitors for tests: a few weeks, each check as it is declared, in the shape of reports/monitor.json."""

from datetime import datetime, timedelta
from typing import Any

from ml_workbench.model.metrics import Interval
from ml_workbench.monitor.checks import Check, Reading, held
from ml_workbench.monitor.losses import Loss, served_loss
from ml_workbench.monitor.running import CHECKS, Looked, place_of, report_of
from ml_workbench.plan.settings import Settings

FIRST = datetime(2017, 11, 20, 5)
DECLARED = {check.name: check for check in CHECKS}
ASKED = {  # a value that is fine, and one that is not, for a check of each monitor
    "dependencies.schema": (0.0, 3.0), "invariants.nulls": (0.01, 0.4), "staleness.model": (189.0, 400.0),
    "numbers.scores": (0.0, 0.2), "performance.failed": (0.0, 0.2), "quality.money": (-20.0, 61.0), "business.offers": (0.9, 0.2),
}  # fmt: skip
MONEY = {"promised": 100.0, "value": 39.0, "low": 12.0, "high": 66.0}


def reading(name: str, *, ill: bool = False, subject: str = "", count: int = 2310, **more: Any) -> Reading:
    "What a check says, held against its declared limit; unknown with too few rows."
    check = Check(**vars(DECLARED[name]) | {"periods": 1})
    fine = MONEY | {"value": 120.0}
    details = (MONEY if ill else fine) if name.startswith("quality.") and name.endswith("money") else {}
    if name == "quality.money":
        earned = Interval(*(details[end] for end in ("value", "low", "high")))
        lost = served_loss(earned, Interval(*[details["promised"]] * 3), "USD", until=FIRST, listed=120)
        details = details | {"loss": lost.as_json()}
    if name == "staleness.curve":
        details = {"loss": Loss(61.0, 34.0, 88.0, "USD", "staleness", "Older.").as_json()}
    said = f"{name} <of> {subject or 'all'}"
    value = ASKED.get(name, ASKED["quality.money"])[ill]
    return held(check, value, said, count=count, minimum=200, subject=subject, details=details, **more)


def week(*ill: str, unknown: tuple[str, ...] = (), subjects: tuple[str, ...] = ("",)) -> list[Reading]:
    "A reading of every monitor; those named are ill, or cannot say anything."
    return [
        reading(name, ill=name in ill, count=3 if name in unknown else 2310, subject=subject)
        for name in ASKED
        for subject in (subjects if name in ill else ("",))
    ]


def report(*weeks: list[Reading], replayed: bool = True, **more: Any) -> dict[str, Any]:
    "What is written of some weeks."
    looked = [
        Looked(
            FIRST + timedelta(weeks=place), "xgboost 77c1d2aa01ff", str(place), tuple(readings), {}, replayed
        )
        for place, readings in enumerate(weeks)
    ]
    return report_of(looked, place_of(Settings()), records="data/replay") | more


def alert(number: int = 0, **more: Any) -> dict[str, Any]:
    "A row of table `alerts`."
    plain = {
        "alert": f"{number:02d}f2a91bb7d0c", "cause": f"invariants.nulls/feature_{number}", "shows": [f"invariants.nulls/feature_{number}"],
        "release": "xgboost 77c1d2aa01ff", "severity": "critical", "title": f"No longer so: columns are complete (feature_{number})",
        "sentence": f"feature_{number} is <empty>.", "remedy": "Ask: deploy/OPERATIONS.md#inputs-are-not-as-in-training",
        "owner": "Data engineering", "evidence": f"reports/monitor.json#invariants.nulls/feature_{number}", "money_per_week": None,
        "first_seen": "2017-11-27T05:00:00", "last_seen": "2017-12-04T05:00:00", "seen": 2, "state": "open",
        "changed_by": None, "changed_at": None, "note": None,
    }  # fmt: skip
    return plain | more
