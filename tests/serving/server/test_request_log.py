from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from serving.errors import ServingError
from serving.records import read_records
from serving.server import request_log_files
from serving.server.request_log import RequestLog
from serving.server.request_log_files import LogLimits, recover
from serving.server.request_log_records import read_log, write_warmup
from serving.server.status import Code
from serving.wire.tensors import read_tensor
from serving.wire.tfrecord import frame
from tests.serving.server.waiting import eventually

HANDLE: Any = SimpleNamespace(name="pets", version=3)
INPUTS = {"image_bytes": np.array([b"png\0", b""], object)}
OUTPUTS = {"label": np.array([b"cat", b"dog"], object), "probabilities": np.float32([[0.25, 0.75], [1, 0]])}


class Metrics:
    def __init__(self) -> None:
        self.logged_codes: list[tuple[str, Code]] = []

    def logged(self, model_name: str, status: Code) -> None:
        self.logged_codes.append((model_name, status))


MakeLog = Callable[..., RequestLog]


@pytest.fixture()
def make_log(tmp_path: Path) -> Iterator[MakeLog]:
    made: list[RequestLog] = []

    def make(rate: float = 1.0, **options: Any) -> RequestLog:
        made.append(RequestLog(options.pop("directory", tmp_path / "log"), rate, **options))
        return made[-1]

    yield make
    for log in made:
        log.close()


def answer(
    log: RequestLog,
    inputs: Mapping[str, np.ndarray] = INPUTS,
    outputs: Mapping[str, np.ndarray] = OUTPUTS,
    kind: str = "Predict",
    signature: str = "serving_default",
    handle: Any = HANDLE,
) -> None:
    log.answered(handle, kind, signature, inputs, outputs)


def files(tmp_path: Path) -> list[str]:
    return sorted(path.suffix for path in (tmp_path / "log").iterdir())


def test_requests_are_read_by_tensorflow(make_log: MakeLog, tmp_path: Path) -> None:
    from tensorflow.python.framework import tensor_util
    from tensorflow_serving.apis import prediction_log_pb2

    metrics = Metrics()
    log = make_log(metrics=metrics)
    answer(log)
    log.close()
    (path,) = (tmp_path / "log").glob("*.tfrecord")
    (record,) = read_records(path)
    found = prediction_log_pb2.PredictionLog.FromString(record)
    request, response = found.predict_log.request, found.predict_log.response
    assert tensor_util.MakeNdarray(request.inputs["image_bytes"]).tolist() == [b"png\0", b""]
    np.testing.assert_array_equal(tensor_util.MakeNdarray(response.outputs["probabilities"]), OUTPUTS["probabilities"])
    spec = found.log_metadata.model_spec
    assert (spec.name, spec.version.value, spec.signature_name) == ("pets", 3, "serving_default")
    assert request.model_spec == spec
    assert found.log_metadata.timestamp_secs > 1_700_000_000
    assert found.log_metadata.sampling_config.sampling_rate == 1.0
    assert metrics.logged_codes == [("pets", Code.OK)]
    assert (log.written, log.dropped) == (1, 0)
    assert files(tmp_path) == [".tfrecord"]


def test_calls_with_examples(make_log: MakeLog, tmp_path: Path) -> None:
    log = make_log()
    examples = {"inputs": np.array([b"", b""], object)}
    classes = {"classes": np.array([[b"cat", b"dog"]] * 2, object), "scores": np.float32([[0.5, 0.5]] * 2)}
    answer(log, examples, classes, "Classify")
    answer(log, examples, {"scores": classes["scores"]}, "MultiInference")
    answer(log, examples, {"outputs": np.float32([1.5, 2.5])}, "Regress")
    answer(log, examples, {"outputs": np.float32([1.5, 2.5])}, "MultiInference")
    log.close()
    first, second, third, fourth = read_log(tmp_path / "log")
    assert len(first.classify_log.request.input.example_list.examples) == 2
    one = first.classify_log.response.result.classifications[1].classes[0]
    assert (one.label, one.score) == ("cat", 0.5)
    assert second.multi_inference_log.request.tasks[0].method_name == "tensorflow/serving/classify"
    assert (
        second.multi_inference_log.response.results[0].classification_result.classifications[0].classes[1].score == 0.5
    )
    assert [item.value for item in third.regress_log.response.result.regressions] == [1.5, 2.5]
    assert fourth.multi_inference_log.request.tasks[0].method_name == "tensorflow/serving/regress"


def test_only_a_share_is_logged(make_log: MakeLog, tmp_path: Path) -> None:
    chances = iter([0.0, 0.1, 0.24, 0.25, 0.9])
    log = make_log(0.25, chance=lambda: next(chances))
    for _ in range(5):
        answer(log)
    log.close()
    assert len(list(read_log(tmp_path / "log"))) == 3


@pytest.mark.parametrize("rate", [-0.1, 1.1, float("nan")], ids=["negative", "above one", "no number"])
def test_a_share_is_between_zero_and_one(rate: float, make_log: MakeLog) -> None:
    with pytest.raises(ServingError, match="0 to 1"):
        make_log(rate)


def test_files_are_finished_when_they_are_full(make_log: MakeLog, tmp_path: Path) -> None:
    log = make_log(limits=LogLimits(file_bytes=1000))
    big = {"x": np.zeros(60, np.float64)}
    for _ in range(4):
        answer(log, big, {})
    eventually(lambda: log.written == 4)
    assert files(tmp_path) == [".open", ".tfrecord", ".tfrecord", ".tfrecord"]
    # Readers see what is in work too.
    assert len(list(read_log(tmp_path / "log"))) == 4
    log.close()
    assert files(tmp_path) == [".tfrecord"] * 4
    assert all(len(list(read_records(path))) == 1 for path in (tmp_path / "log").iterdir())


def test_a_small_file_is_finished_when_it_is_old(make_log: MakeLog, tmp_path: Path) -> None:
    answer(make_log(limits=LogLimits(file_seconds=0.05)))
    eventually(lambda: files(tmp_path) == [".tfrecord"])


@pytest.mark.parametrize(
    "limits", [LogLimits(buffer_records=3), LogLimits(buffer_bytes=3 * 400)], ids=["records", "bytes"]
)
def test_the_buffer_is_bounded(
    limits: LogLimits, make_log: MakeLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = threading.Event()
    writing = threading.Event()
    write = request_log_files.LogFiles.write

    def slow(self: Any, record: bytes) -> bool:
        writing.set()
        assert blocked.wait(60)
        return write(self, record)

    monkeypatch.setattr(request_log_files.LogFiles, "write", slow)
    metrics = Metrics()
    log = make_log(limits=limits, metrics=metrics)
    array = {"x": np.zeros(50)}
    answer(log, array, {})
    assert writing.wait(60)
    for _ in range(5):
        answer(log, array, {})
    assert log.dropped == 2
    assert metrics.logged_codes == [("pets", Code.RESOURCE_EXHAUSTED)] * 2
    blocked.set()
    log.close()
    assert log.written == len(list(read_log(tmp_path / "log"))) == 4


def test_a_request_that_cannot_be_written_as_a_record_is_dropped(make_log: MakeLog, tmp_path: Path) -> None:
    log = make_log()
    answer(log, {"x": np.array(["2020"], "datetime64[Y]")})
    answer(log)
    log.close()
    assert (log.written, log.dropped) == (1, 1)


class FullDisk:
    """Refuses bytes beyond a limit, as a full disk does: some of a record may get through."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.write = os.write

    def __call__(self, descriptor: int, data: Any) -> int:
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = self.write(descriptor, data[: self.room])
        self.room -= taken
        return taken


def test_a_full_disk_drops_requests_and_tears_none(
    make_log: MakeLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = Metrics()
    disk = FullDisk(450)
    log = make_log(metrics=metrics)
    monkeypatch.setattr(os, "write", disk)
    monkeypatch.setattr(request_log_files, "_RETRY_SECONDS", 0.0)
    for _ in range(6):
        answer(log)
    eventually(lambda: log.written + log.dropped == 6)
    assert log.written and log.dropped
    assert metrics.logged_codes[-1] == ("pets", Code.UNAVAILABLE)
    # Room again: the log goes on by itself.
    disk.room = 10**6
    written = log.written
    answer(log)
    eventually(lambda: log.written == written + 1)
    log.close()
    records = [record for path in (tmp_path / "log").glob("*.tfrecord") for record in read_records(path)]
    assert len(records) == log.written


def test_after_a_refusal_the_disk_is_left_in_peace(
    make_log: MakeLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make_log()
    monkeypatch.setattr(os, "write", FullDisk(0))
    answer(log)
    eventually(lambda: log.dropped == 1)
    monkeypatch.undo()
    answer(log)
    eventually(lambda: log.dropped == 2)


def test_a_directory_that_cannot_be_made_is_named(make_log: MakeLog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ServingError, match="file/log"):
        make_log(directory=tmp_path / "file" / "log")


def test_a_directory_that_vanishes_costs_requests_only(make_log: MakeLog, tmp_path: Path) -> None:
    log = make_log()
    (tmp_path / "log").rmdir()
    answer(log)
    eventually(lambda: log.dropped == 1)


def test_a_torn_file_of_a_killed_server_is_finished(make_log: MakeLog, tmp_path: Path) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    (directory / "requests-1.tfrecord.open").write_bytes(frame(b"") + frame(b"whole") + frame(b"torn")[:-1])
    (directory / "requests-2.tfrecord.open").write_bytes(frame(b"torn")[:5])
    make_log()
    assert [path.name for path in directory.iterdir()] == ["requests-1.tfrecord"]
    assert list(read_records(directory / "requests-1.tfrecord")) == [b"", b"whole"]


def test_files_of_a_server_that_lives_are_left_alone(make_log: MakeLog, tmp_path: Path) -> None:
    log = make_log()
    answer(log)
    eventually(lambda: log.written == 1)
    assert recover(tmp_path / "log") == []
    make_log()
    assert files(tmp_path) == [".open"]


WRITER = """
import sys
from types import SimpleNamespace
import numpy as np
from serving.server.request_log import RequestLog
log = RequestLog(sys.argv[1], 1.0)
handle = SimpleNamespace(name="pets", version=3)
print("ready", flush=True)
while True:
    log.answered(handle, "Predict", "", {"x": np.zeros(5000, np.float32)}, {})
"""


def test_kill_nine_costs_no_whole_record(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    for _ in range(2):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(directory)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None and writer.stdout.readline()
            eventually(lambda: any(path.stat().st_size > 200_000 for path in directory.glob("*.open")))
            writer.send_signal(signal.SIGKILL)
    recover(directory)
    assert not list(directory.glob("*.open"))
    for path in directory.iterdir():
        assert len(list(read_records(path))) >= 9
    for log in read_log(directory):
        assert read_tensor(log.predict_log.request.inputs["x"]).shape == (5000,)


def test_a_limit_on_file_sizes_is_a_full_disk(tmp_path: Path) -> None:
    """The kernel itself refuses to let the file grow."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        + WRITER.replace("while True:", "for _ in range(20):")
        + "log.close()\nprint(log.written, log.dropped)\n"
    )
    assert resource.RLIMIT_FSIZE is not None
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    written, dropped = map(int, done.stdout.split()[1:])
    assert written == 2
    assert dropped == 18
    (path,) = tmp_path.glob("*.tfrecord")
    assert len(list(read_records(path))) == 2


def test_reading_keeps_to_a_model(make_log: MakeLog, tmp_path: Path) -> None:
    log = make_log()
    answer(log)
    answer(log, handle=SimpleNamespace(name="cars", version=1))
    log.close()
    found = list(read_log(tmp_path / "log", "cars"))
    assert [one.log_metadata.model_spec.name for one in found] == ["cars"]


def test_a_warm_up_file_covers_signatures_and_shapes_first(make_log: MakeLog, tmp_path: Path) -> None:
    from serving.warmup import WARMUP_FILE, read_requests

    log = make_log()
    for number in range(20):
        answer(log, {"x": np.full((1, 2), number, np.float32)}, {"y": np.zeros(1)})
    answer(log, {"x": np.zeros((4, 2), np.float32)}, {})
    answer(log, {"z": np.zeros(1, np.int64)}, {}, signature="other")
    answer(log, {"x": np.zeros(1, np.int64)}, {}, handle=SimpleNamespace(name="cars", version=1))
    log.close()
    model = tmp_path / "model"
    assert write_warmup(tmp_path / "log", "pets", model / WARMUP_FILE, count=5) == 5
    requests = list(read_requests(model))
    assert {(one.signature, *(array.shape for array in one.inputs.values())) for one in requests} == {
        ("serving_default", (1, 2)),
        ("serving_default", (4, 2)),
        ("other", (1,)),
    }
    record = next(read_records(model / WARMUP_FILE))
    (first,) = [one for one in read_log(model / WARMUP_FILE) if one.SerializeToString(deterministic=True) == record][:1]
    assert not first.predict_log.HasField("response")
    assert not first.predict_log.request.model_spec.HasField("version")


def test_equal_requests_warm_up_once(make_log: MakeLog, tmp_path: Path) -> None:
    log = make_log()
    for _ in range(5):
        answer(log)
    log.close()
    assert write_warmup(tmp_path / "log", "pets", tmp_path / "out") == 1


def test_a_warm_up_file_needs_requests(make_log: MakeLog, tmp_path: Path) -> None:
    make_log().close()
    with pytest.raises(ServingError, match="no request of model 'pets'"):
        write_warmup(tmp_path / "log", "pets", tmp_path / "out")
    with pytest.raises(ServingError, match="1 to 1000"):
        write_warmup(tmp_path / "log", "pets", tmp_path / "out", count=1001)
    assert not (tmp_path / "out").exists()
