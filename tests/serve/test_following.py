"""What a service follows when something is away in the very moment of a change."""

from ml_workbench.plan.errors import RecordError
from ml_workbench.serve import following
from ml_workbench.serve.answering import Answering
from ml_workbench.serve.logs import Log
from tests.serve.live import Place, until


def test_features_are_used_although_the_database_went_away_before_it_said_who_rests(tmp_path, monkeypatch):
    place = Place(tmp_path)
    place.deploy()
    follower = following.Follower(Answering(None, Log()), place.settings())
    follower.look()
    assert follower.answering.decider.known is None
    place.fill_online()
    asked, resting = [], following.resting_units

    def away_once(*arguments):
        asked.append(arguments)
        if len(asked) == 1:
            raise RecordError("the database is away")
        return resting(*arguments)

    monkeypatch.setattr(following, "resting_units", away_once)
    monkeypatch.setattr(following, "AGAIN", 0.05)
    follower.look()
    assert follower.answering.decider.known is None and "release" in follower.problems
    until(lambda: follower.look() or follower.answering.decider.known is not None, 5.0)
    assert len(asked) == 2 and not follower.problems
    assert not follower.look() and len(asked) == 2, "nothing is new"
    follower.stop()
