"""Which models are loaded twice, and for which calls."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.errors import ModelLoadError
from serving.server import pairing
from serving.server.inline_session import InlineSessionModel
from serving.server.loading import LoadOptions, load
from serving.server.paired_servable import PairedServable
from serving.server.saved_model_servable import SavedModelServable
from serving.server.status import Code, StatusError
from serving.warmup import WARMUP_FILE
from tests.serving.saved_models import encode_png, picture

PAIR = LoadOptions(pair=True)


@pytest.fixture()
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What measuring finds, by signature; 4 rows for those that are not named."""
    found: dict[str, int] = {}
    monkeypatch.setattr(pairing, "brief_rows", lambda _, __, request: found.get(request.signature, 4))
    return found


def test_a_paired_model_answers_as_before(classifier_dir: Path, measured: dict[str, int]) -> None:
    single, paired = load(classifier_dir, LoadOptions()).servable, load(classifier_dir, PAIR).servable
    try:
        assert isinstance(paired, PairedServable)
        for rows in (1, 4, 5):
            images = np.stack([picture(number) for number in range(rows)])
            for name, inputs in (
                ("predict_uint8", {"image": images}),
                ("serving_default", {"image_bytes": np.array([encode_png(image) for image in images], object)}),
            ):
                one, other = single.run(name, inputs), paired.run(name, inputs)
                np.testing.assert_allclose(one["probabilities"], other["probabilities"], atol=1e-6)
                assert one["label"].tolist() == other["label"].tolist()
        assert paired.signature_defs() == single.signature_defs()
        assert paired.one_core_rows == {"classify": 4, "serving_default": 4}
    finally:
        single.close()
        paired.close()


def test_a_paired_model_refuses_as_before(classifier_dir: Path, measured: dict[str, int]) -> None:
    told = []
    inputs = {"image_bytes": np.array([encode_png(picture(0)), b"no picture"], object)}
    for options in (LoadOptions(), PAIR):
        servable = load(classifier_dir, options).servable
        with pytest.raises(StatusError) as caught:
            servable.run("serving_default", inputs)
        servable.close()
        told.append((caught.value.code, caught.value.message))
    assert told[0] == told[1]
    assert "{{node" in told[0][1]


def test_control_flow_of_tensorflow_1_runs_on_one_thread_too(
    tmp_path: Path, measured: dict[str, int], closed: list[SavedModelServable]
) -> None:
    import tensorflow.compat.v1 as tf

    with tf.Graph().as_default() as graph, tf.Session(graph=graph) as session:
        x = tf.placeholder(tf.float32, [None], "x")
        to_false, to_true = tf.raw_ops.Switch(data=x, pred=tf.reduce_sum(x) > 3)
        y, _ = tf.raw_ops.Merge(inputs=[to_false, 10 * to_true])
        tf.saved_model.simple_save(session, str(tmp_path), {"x": x}, {"y": y})
    (tmp_path / "assets.extra").mkdir()
    write_request(tmp_path)
    servable = load(tmp_path, PAIR).servable
    assert isinstance(servable, PairedServable)
    # The one that was to run in order.
    assert len(closed) == 1
    for value, expected in ((2.0, 2.0), (4.0, 40.0)):
        assert servable.run("serving_default", {"x": np.array([value], np.float32)})["y"].tolist() == [expected]
    servable.close()
    assert len(closed) == 3


def test_calls_on_one_thread_run_in_that_of_their_caller(
    classifier_dir: Path, measured: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured["serving_default"] = 16
    inline: list[int] = []
    prepare = InlineSessionModel.prepare_inline

    def noted(self: InlineSessionModel, *arguments: Any) -> Any:
        names, run = prepare(self, *arguments)

        def counted(arrays: Sequence[np.ndarray]) -> Any:
            inline.append(len(arrays[0]))
            return run(arrays)

        return names, counted

    monkeypatch.setattr(InlineSessionModel, "prepare_inline", noted)
    servable = load(classifier_dir, PAIR).servable
    inline.clear()
    try:
        for rows in (16, 17):
            servable.run("serving_default", {"image_bytes": np.array([encode_png(picture(0))] * rows, object)})
    finally:
        servable.close()
    assert inline == [16]


def test_measuring_really_takes_place(classifier_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows: list[int] = []
    measure = pairing.brief_rows

    def noted(*arguments: Any) -> int:
        rows.append(measure(*arguments))
        return rows[-1]

    monkeypatch.setattr(pairing, "brief_rows", noted)
    load(classifier_dir, PAIR).servable.close()
    assert len(rows) == 2
    assert set(rows) <= {0, 1, 2, 4, 8, 16}


@pytest.fixture()
def closed(monkeypatch: pytest.MonkeyPatch) -> list[SavedModelServable]:
    """Models that were closed."""
    found: list[SavedModelServable] = []
    close = SavedModelServable.close

    def noted(self: SavedModelServable) -> None:
        found.append(self)
        close(self)

    monkeypatch.setattr(SavedModelServable, "close", noted)
    return found


@pytest.mark.parametrize(
    "options",
    [
        LoadOptions(),
        LoadOptions(pair=True, intra_op_threads=2),
        LoadOptions(pair=True, inter_op_threads=1),
        LoadOptions(pair=True, warmup=False),
    ],
)
def test_who_asks_for_something_else_gets_one(
    classifier_dir: Path, measured: dict[str, int], options: LoadOptions
) -> None:
    servable = load(classifier_dir, options).servable
    assert isinstance(servable, SavedModelServable)
    servable.close()


def test_a_model_that_may_run_on_a_gpu_is_not_loaded_twice(
    classifier_dir: Path, measured: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(InlineSessionModel, "device_types", lambda _: {"CPU", "GPU"})
    servable = load(classifier_dir, PAIR).servable
    assert isinstance(servable, SavedModelServable)
    servable.close()


def test_a_large_model_is_not_loaded_twice(
    classifier_dir: Path, measured: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pairing, "_MOST_BYTES", 1000)
    servable = load(classifier_dir, PAIR).servable
    assert isinstance(servable, SavedModelServable)
    servable.close()


def test_a_model_that_keeps_something_is_not_loaded_twice(
    tmp_path: Path, measured: dict[str, int], closed: list[SavedModelServable]
) -> None:
    import tensorflow as tf

    class Counter(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.calls = tf.Variable(0.0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def count(self, x: Any) -> dict[str, Any]:
            return {"y": x * 0 + self.calls.assign_add(1.0)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
        def read(self, x: Any) -> dict[str, Any]:
            return {"y": x * 0 + self.calls}

    model = Counter()
    tf.saved_model.save(model, str(tmp_path), signatures={"serving_default": model.read, "count": model.count})
    (tmp_path / "assets.extra").mkdir()
    write_request(tmp_path)
    servable = load(tmp_path, PAIR).servable
    assert isinstance(servable, SavedModelServable)
    x = {"x": np.ones(1, np.float32)}
    assert [servable.run(name, x)["y"][0] for name in ("count", "count", "serving_default")] == [1, 2, 2]
    assert closed == []
    servable.close()


def write_request(directory: Path) -> None:
    import tensorflow as tf
    from tensorflow_serving.apis import prediction_log_pb2

    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones(1, np.float32)))
    with tf.io.TFRecordWriter(str(directory / WARMUP_FILE)) as writer:
        writer.write(log.SerializeToString())


def test_the_second_is_closed_if_it_is_never_faster(
    classifier_dir: Path, measured: dict[str, int], closed: list[SavedModelServable]
) -> None:
    measured.update(dict.fromkeys(("predict_uint8", "serving_default", "classify", "predict_examples"), 0))
    servable = load(classifier_dir, PAIR).servable
    assert isinstance(servable, SavedModelServable)
    assert len(closed) == 1 and closed[0] is not servable
    servable.close()


def test_a_model_that_takes_its_own_number_of_rows_alone_is_served_all_the_same(
    classifier_dir: Path, monkeypatch: pytest.MonkeyPatch, closed: list[SavedModelServable]
) -> None:
    run = SavedModelServable.run

    def four_rows_only(self: SavedModelServable, signature: str, inputs: Any, outputs: Any = None) -> Any:
        # The requests of the warm-up pass, those of the measurement don't.
        if threading.current_thread() is not threading.main_thread():
            raise StatusError(Code.INVALID_ARGUMENT, "Input to reshape is a tensor with 3 values")
        return run(self, signature, inputs, outputs)

    monkeypatch.setattr(SavedModelServable, "run", four_rows_only)
    servable = load(classifier_dir, PAIR).servable
    assert isinstance(servable, SavedModelServable)
    assert len(closed) == 1 and closed[0] is not servable
    servable.close()


def test_a_second_load_that_fails_leaves_the_first(
    classifier_dir: Path, measured: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = SavedModelServable.load

    def once(path: Path, options: LoadOptions, **more: Any) -> SavedModelServable:
        if options.intra_op_threads:
            raise ModelLoadError("the files are gone")
        return first(path, options, **more)

    monkeypatch.setattr(SavedModelServable, "load", once)
    servable = load(classifier_dir, PAIR).servable
    assert isinstance(servable, SavedModelServable)
    servable.close()


def test_both_are_closed_if_measuring_fails(
    classifier_dir: Path, monkeypatch: pytest.MonkeyPatch, closed: list[SavedModelServable]
) -> None:
    def fail(*_: Any) -> int:
        raise MemoryError

    monkeypatch.setattr(pairing, "brief_rows", fail)
    with pytest.raises(MemoryError):
        load(classifier_dir, PAIR)
    assert len(set(map(id, closed))) == 2


_THREADS = """
import os, sys
from pathlib import Path
from serving import lean_tensorflow
lean_tensorflow.install()
from serving.server.saved_model_servable import SavedModelServable
from serving.server.loading import LoadOptions
first = SavedModelServable.load(Path(sys.argv[1]), LoadOptions())
before = len(os.listdir("/proc/self/task"))
second = SavedModelServable.load(Path(sys.argv[1]), LoadOptions(intra_op_threads=3))
print(len(os.listdir("/proc/self/task")) - before)
"""


def test_with_the_variable_of_the_server_each_session_has_its_own_threads(classifier_dir: Path) -> None:
    # Were they shared, the second load would gain nothing and cost its memory.
    more = {}
    for value in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _THREADS, str(classifier_dir)],
            env={"TF_OVERRIDE_GLOBAL_THREADPOOL": value, "TF_CPP_MIN_LOG_LEVEL": "3"},
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        more[value] = int(done.stdout)
    assert more["1"] == more["0"] + 3
