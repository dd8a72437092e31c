"""Whatever a model does while it is loaded, it does to a child process."""

import json
import os

import numpy as np
import pytest
from onnx import TensorProto, helper
from xgboost import XGBClassifier

from ml_workbench.model.graph import Graph, model_of
from ml_workbench.model.quarantine import Limits, try_in_child
from ml_workbench.model.session import GOLDEN, MODEL, SIGNATURE, TREES, Golden
from ml_workbench.plan.errors import ArtifactError

ROWS = np.array([[1.0], [3.0]], dtype=np.float32)


def artefact(graph: Graph, result: str, *, answers=(2.0, 6.0), **more: bytes) -> dict[str, bytes]:
    "Files of a model with one input."
    golden = Golden(ROWS, np.array(answers), 1e-5)
    model = model_of(graph, result, width=1, output="score")
    return {MODEL: model, SIGNATURE: b"{}", GOLDEN: golden.as_bytes()} | more


def doubling() -> tuple[Graph, str]:
    graph = Graph()
    return graph, graph.flat(graph.add("Add", "features", "features"))


def endless() -> tuple[Graph, str]:
    "A loop of 2⁶² rounds."
    graph = Graph()
    given = [
        helper.make_tensor_value_info(*each, [])
        for each in (("i", TensorProto.INT64), ("go", TensorProto.BOOL))
    ]
    carried = helper.make_tensor_value_info("x", TensorProto.FLOAT, None)
    steps = [helper.make_node("Identity", ["go"], ["still"]), helper.make_node("Sin", ["x"], ["y"])]
    ends = [
        helper.make_tensor_value_info("still", TensorProto.BOOL, []),
        helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
    ]
    body = helper.make_graph(steps, "body", [*given, carried], ends)
    rounds, go = graph.constant(2**62, np.int64), graph.constant(True, bool)
    return graph, graph.flat(graph.add("Loop", rounds, go, "features", body=body))


def test_a_good_model_passes_and_says_how_close_it_came():
    assert try_in_child(artefact(*doubling())) == 0.0
    assert try_in_child(artefact(*doubling(), answers=(2.0, 6.000001))) == pytest.approx(1e-6)


def test_a_model_that_answers_otherwise_is_refused_with_the_difference():
    with pytest.raises(
        ArtifactError, match=r"scores 1 of 2 golden rows otherwise than written, by 0\.5 at most"
    ):
        try_in_child(artefact(*doubling(), answers=(2.0, 6.5)))


def test_an_endless_model_is_ended_by_the_clock():
    with pytest.raises(ArtifactError, match=r"not loaded within 2 s"):
        try_in_child(artefact(*endless()), Limits(seconds=2.0))


def test_an_endless_model_is_ended_by_its_processor_time():
    with pytest.raises(ArtifactError, match=r"more than 1 s of processor time"):
        try_in_child(artefact(*endless()), Limits(cpu_seconds=1, seconds=60.0))


def test_a_model_that_wants_too_much_memory_is_refused():
    graph = Graph()
    zeros = graph.add("ConstantOfShape", graph.constant([10**4, 10**5], np.int64))
    with pytest.raises(ArtifactError, match=r"ailed to allocate memory|more than the 512 MB"):
        try_in_child(artefact(graph, graph.flat(graph.add("ReduceMax", zeros))), Limits(memory_mb=512))


def test_a_model_that_crashes_takes_only_the_child_with_it():
    trees = XGBClassifier(n_estimators=1, max_depth=1).fit(np.repeat(ROWS, 20, axis=0), np.repeat([0, 1], 20))
    raw = json.loads(trees.get_booster().save_raw("json"))
    tree = raw["learner"]["gradient_booster"]["model"]["trees"][0]
    tree["left_children"][0] = tree["right_children"][0] = 2**30  # far outside the arrays
    with pytest.raises(ArtifactError, match=r"crashed the process that tried it \(SIGSEGV\)"):
        try_in_child(artefact(*doubling(), **{TREES: json.dumps(raw).encode()}))
    assert os.getpid()  # still here


def test_a_child_that_cannot_even_start_is_told_by_its_last_words(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime.py").write_text(
        "raise ImportError('libfoo.so.1: cannot open shared object file')"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ArtifactError, match=r"with code 1: ImportError: libfoo\.so\.1"):
        try_in_child(artefact(*doubling()))


def test_the_child_is_told_no_secrets(tmp_path, monkeypatch):
    seen = tmp_path / "seen"
    (tmp_path / "onnxruntime.py").write_text(
        f"import os; open({str(seen)!r}, 'w').write(repr(dict(os.environ)))"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MLW_DATABASE_URL", "postgresql://user:secret@host/db")
    with pytest.raises(ArtifactError):
        try_in_child(artefact(*doubling()))
    assert "PATH" in seen.read_text() and "secret" not in seen.read_text()
