"""One door to everything that makes a lift believable."""

from importlib import import_module

import ml_workbench.estimators.evidence as evidence


def test_every_name_of_the_front_door_is_the_one_of_its_chapter():
    chapters = "bayes", "guardrails", "multiplicity", "sample", "segments", "timing", "triggered"
    modules = [import_module(f"ml_workbench.estimators.{chapter}") for chapter in chapters]
    for name in evidence.__all__:
        owners = [module for module in modules if name in module.__all__]
        assert len(owners) == 1, name
        assert getattr(evidence, name) is getattr(owners[0], name)


def test_the_tests_of_an_experiment_are_all_there():
    wanted = {"srm", "bayesian", "adjusted", "guardrail", "interaction", "over_time", "triggered"}
    assert wanted <= set(evidence.__all__)
