from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.convert import tftrt, worker
from serving.convert.job import Conversion
from serving.convert.tftrt import NoEngines, TrtSettings, calibration_feeds, shape_feeds
from serving.convert.tftrt_segments import Coverage
from serving.errors import ConversionError
from tests.serving.convert import networks

COVERAGE = Coverage(10, 9, 0.9, 1, {"TopKV2": {"count": 1, "reasons": ["no"]}}, {})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return networks.save(tmp_path_factory.mktemp("source") / "model", networks.probabilities)


@pytest.mark.parametrize("status", ["not_built", "no_gpu", "no_libnvinfer", "version_mismatch", "probe_failed"])
def test_what_is_missing_is_the_reason_and_the_coverage_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: str
) -> None:
    asked: list[Any] = []

    def segments(*arguments: Any, **named: Any) -> Coverage:
        asked.append((arguments, named))
        return COVERAGE

    monkeypatch.setattr(tftrt, "tftrt_status", lambda: (status, "because."))
    monkeypatch.setattr(tftrt, "segments", segments)
    options = {"minimum_segment_size": 4, "scores": "logits", "seed": 3}
    job = Conversion("tftrt_fp16", tmp_path / "model", tmp_path / "out", signature="predict_float", options=options)
    with pytest.raises(NoEngines) as caught:
        tftrt.convert(job)
    assert str(caught.value) == f"{status}: because."
    assert caught.value.details == {"tftrt_status": status, "coverage": COVERAGE.to_dict()}
    named = {"signature": "predict_float", "options": {"scores": "logits"}}
    assert asked == [((tmp_path / "model", "FP16", 4), named)]
    outcome = worker.run(job)
    assert (outcome.status, outcome.reason) == ("skipped", f"{status}: because.")
    assert outcome.details["coverage"]["share"] == 0.9


def test_a_coverage_that_cannot_be_found_out_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def segments(*arguments: Any, **named: Any) -> Coverage:
        raise ConversionError("no compiler.")

    monkeypatch.setattr(tftrt, "tftrt_status", lambda: ("no_gpu", "because."))
    monkeypatch.setattr(tftrt, "segments", segments)
    for options, reason in (({}, "no compiler."), ({"coverage": False}, "not asked for")):
        with pytest.raises(NoEngines) as caught:
            tftrt.convert(Conversion("tftrt_fp32", tmp_path, tmp_path / "out", options=options))
        assert caught.value.details["coverage"] == {"unknown": reason}


@pytest.mark.parametrize(
    ("form", "options", "expected"),
    [
        ("tftrt_fp32", {}, TrtSettings("FP32", 3, (1, 32))),
        ("tftrt_fp16", {"batch_sizes": [8]}, TrtSettings("FP16", 3, (8,))),
        ("tftrt_int8", {"minimum_segment_size": 7}, TrtSettings("INT8", 7, (1, 32))),
    ],
)
def test_settings_come_from_form_and_options(form: str, options: dict, expected: TrtSettings) -> None:
    found = TrtSettings.of(Conversion(form, Path("a"), Path("b"), options=options))
    assert found == expected
    assert found.calibrated == (form == "tftrt_int8")


@pytest.mark.parametrize(
    "options",
    [
        {"batch_sizes": []},
        {"batch_sizes": [0]},
        {"batch_sizes": 4},
        {"batch_sizes": [True]},
        {"minimum_segment_size": 0},
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict) -> None:
    with pytest.raises(ConversionError, match="expected"):
        TrtSettings.of(Conversion("tftrt_fp16", Path("a"), Path("b"), options=options))


def sample(count: int) -> Any:
    from serving.convert.calibration import Calibration

    pixels = np.concatenate([batch for batch, _ in networks.images(count).read()])
    return Calibration(pixels, np.zeros(count, np.int64), {"representative_images": count})


@pytest.mark.parametrize(("count", "sizes"), [(5, [5]), (32, [32]), (70, [32, 32])])
def test_the_calibrator_gets_batches_of_one_size(count: int, sizes: list[int]) -> None:
    feeds = list(calibration_feeds(sample(count)))
    assert [feed["image"].shape[0] for feed in feeds] == sizes
    assert all(feed["image"].dtype.name == "float32" and float(feed["image"].numpy().max()) <= 1.0 for feed in feeds)


def test_each_batch_size_gets_an_engine() -> None:
    feeds = list(shape_feeds((8, 6, 3), (1, 4, 32)))
    assert [feed["image"].shape.as_list() for feed in feeds] == [[1, 8, 6, 3], [4, 8, 6, 3], [32, 8, 6, 3]]


class Converter:
    """Stands for TensorFlow's converter on a machine with a GPU: same calls, engines of some bytes."""

    def __init__(self, source: Path, settings: TrtSettings, engine: bytes | None, engines: int) -> None:
        self.source, self.settings, self.engine, self.engines = source, settings, engine, engines
        self.calls: list[str] = []
        self.built: list[list[int]] = []
        self.calibrated: list[int] = []

    def convert(self, calibration_input_fn: Callable[[], Any] | None = None) -> Any:
        from tensorflow.core.framework import graph_pb2

        self.calls.append("convert")
        if calibration_input_fn:
            self.calibrated = [int(feed["image"].shape[0]) for feed in calibration_input_fn()]
        Path(os.environ["TF_TRT_SHOW_DETAILED_REPORT"]).write_text("OP Name|Reason|Count\nTopKV2|no|1\n")
        graph = graph_pb2.GraphDef()
        graph.node.add(name="top", op="TopKV2")
        for number in range(self.engines):
            graph.node.add(name=f"engine_{number}", op="TRTEngineOp")
            function = graph.library.function.add()
            function.signature.name = f"engine_{number}_native_segment"
            function.node_def.add(name="conv", op="Conv2D")
        return SimpleNamespace(graph=SimpleNamespace(as_graph_def=lambda: graph))

    def build(self, input_fn: Callable[[], Any]) -> None:
        self.calls.append("build")
        self.built = [feed["image"].shape.as_list() for feed in input_fn()]

    def save(self, directory: str) -> None:
        import shutil

        self.calls.append("save")
        shutil.copytree(self.source, directory, dirs_exist_ok=True)
        (Path(directory) / "assets").mkdir(exist_ok=True)
        if self.engine is not None:
            (Path(directory) / "assets/trt-serialized-engine.TRTEngineOp_000_000").write_bytes(self.engine)


@pytest.fixture()
def gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Converter]]:
    """A machine that builds what it is told to."""

    def provide(engine: bytes | None = b"engine", engines: int = 1) -> list[Converter]:
        made: list[Converter] = []

        def converter(source: Path, settings: TrtSettings) -> Converter:
            made.append(Converter(source, settings, engine, engines))
            return made[-1]

        monkeypatch.setattr(tftrt, "tftrt_status", lambda: ("ok", ""))
        monkeypatch.setattr(tftrt, "converter", converter)
        monkeypatch.delenv("TF_TRT_SHOW_DETAILED_REPORT", raising=False)
        return made

    return provide


def test_engines_are_built_for_every_batch_size_and_saved(gpu: Callable, model: Path, tmp_path: Path) -> None:
    made = gpu()
    outcome = worker.run(Conversion("tftrt_fp16", model, tmp_path / "out", options={"batch_sizes": [1, 4]}))
    assert outcome.status == "ok", outcome.reason
    (converter,) = made
    assert converter.calls == ["convert", "build", "save"]
    assert converter.built == [[1, 8, 8, 3], [4, 8, 8, 3]]
    assert converter.calibrated == []
    assert outcome.details["engine_bytes"] == len(b"engine")
    assert outcome.details["coverage"]["unsupported"] == {"TopKV2": {"count": 1, "reasons": ["no"]}}
    assert outcome.details["max_abs_difference"] < 1e-6
    assert outcome.details["precision"] == "FP16"
    assert "TF_TRT_SHOW_DETAILED_REPORT" not in os.environ


def test_int8_is_calibrated_on_the_representative_images(gpu: Callable, model: Path, tmp_path: Path) -> None:
    made = gpu()
    file = networks.images(40).save(tmp_path / "sample.npz")
    outcome = worker.run(Conversion("tftrt_int8", model, tmp_path / "out", file, options={"seed": 9}))
    assert outcome.status == "ok", outcome.reason
    assert made[0].calibrated == [32]
    assert (outcome.details["representative_images"], outcome.details["seed"]) == (40, 9)
    without = worker.run(Conversion("tftrt_int8", model, tmp_path / "none"))
    assert without.status == "failed" and "needs representative images" in without.reason


@pytest.mark.parametrize(
    ("machine", "reason"),
    [
        ({"engines": 0}, "nothing in the model can run in an engine of 3 or more nodes; unsupported: TopKV2"),
        ({"engine": None}, "TensorRT built no engine"),
        ({"engine": b""}, "TensorRT built no engine"),
    ],
)
def test_a_model_without_engines_is_no_success(
    gpu: Callable, model: Path, tmp_path: Path, machine: dict, reason: str
) -> None:
    gpu(**machine)
    outcome = worker.run(Conversion("tftrt_fp32", model, tmp_path / "out"))
    assert outcome.status == "failed" and reason in outcome.reason
