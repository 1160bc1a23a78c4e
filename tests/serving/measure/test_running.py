from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from serving.errors import ServingError
from serving.measure.images import ImageBatches
from serving.measure.latency import LatencySettings
from serving.measure.measurement import from_record, to_record
from serving.measure.progress import Step, StepFile, read_step
from serving.measure.running import measure

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
QUICK = LatencySettings(rounds=3, rounds_batched=2, sample_microseconds=0, seconds_per_variant=5)


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("splits")
    paths = []
    for name, count in (("choose", 12), ("report", 9)):
        values = np.arange(count, dtype=np.uint8)
        pixels = np.broadcast_to(values[:, None, None, None], (count, 2, 2, 1))
        paths.append(ImageBatches.of_arrays(pixels, values % 3, batch=5).save(root / f"{name}.npz"))
    return paths[0], paths[1]


def forms(root: Path, *behaviors: str) -> dict[str, tuple[str, Path]]:
    found = {}
    for behavior in ("fine", *behaviors):
        path = root / f"{behavior}.tflite"
        path.write_bytes(behavior.encode())
        found["saved_model" if behavior == "fine" else f"tflite_{behavior}"] = ("tflite_float32", path)
    return found


def run(root: Path, splits: tuple[Path, Path], *behaviors: str, **values):
    return measure(forms(root, *behaviors), "saved_model", *splits, command=FAKE, **{"latency": QUICK, **values})


def test_all_is_measured_in_one_go(tmp_path: Path, splits: tuple[Path, Path]) -> None:
    seen: list[tuple[int, int]] = []
    found = run(tmp_path, splits, "wrong", on_progress=lambda *pair: seen.append(pair))
    assert list(found) == ["saved_model", "tflite_wrong"]
    base, wrong = found["saved_model"], found["tflite_wrong"]
    assert base.ok and wrong.ok
    assert base.choose.images == 12 and base.report.images == 9
    assert (base.choose.accuracy, base.choose.ci95_low) == (1, 0)
    assert (wrong.choose.accuracy, wrong.choose.top1_agreement, wrong.report.worst_class_drop) == (0, 0, 1)
    assert set(wrong.timings) == {1, 32} and wrong.timings[32].rounds == 2
    assert wrong.size.bytes == 5 and wrong.operations.gpu_delegate_ok is True
    assert {"cpu", "load_average", "load_average_after", "threads"} <= set(wrong.environment)
    assert all(total == 6 for _, total in seen)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_time_can_be_left_out(tmp_path: Path, splits: tuple[Path, Path]) -> None:
    found = run(tmp_path, splits, latency=None)
    assert found["saved_model"].timings == {} and found["saved_model"].choose is not None


def test_what_raises_is_failed_with_its_reason_and_the_rest_is_measured(tmp_path, splits) -> None:
    found = run(tmp_path, splits, "truncated", "nan", "raise_32", "uncounted", "wrong")
    assert found["tflite_truncated"].reason == "tflite_float32 is truncated."
    assert "expected finite" in found["tflite_nan"].reason
    assert found["tflite_raise_32"].reason == "At batch size 32: MemoryError: no room for 32 images"
    assert [name for name, one in found.items() if one.ok] == ["saved_model", "tflite_uncounted", "tflite_wrong"]
    assert found["tflite_uncounted"].operations is None
    assert found["tflite_uncounted"].remark == "Operations are not counted: The graph is a riddle."
    assert set(found["tflite_wrong"].timings) == {1, 32}


def test_what_crashes_is_named_and_the_rest_is_measured_again(tmp_path, splits) -> None:
    found = run(tmp_path, splits, "crash", "abort", "exit", "crash_late", "wrong")
    assert "SIGSEGV while it classified the images of the split 'choose'" in found["tflite_crash"].reason
    assert "SIGABRT" in found["tflite_abort"].reason
    assert "F stub.cc:49] symbol not found" in found["tflite_abort"].reason
    assert "exit code 7 while it was loaded" in found["tflite_exit"].reason
    assert "SIGSEGV while" in found["tflite_crash_late"].reason
    assert [name for name, one in found.items() if one.ok] == ["saved_model", "tflite_wrong"]
    assert set(found["tflite_wrong"].timings) == {1, 32}
    assert "tflite_crash_late" not in found["tflite_wrong"].timings


def test_what_hangs_is_ended_and_named(tmp_path, splits) -> None:
    found = run(tmp_path, splits, "hang", step_seconds=4, latency=None)
    assert "ended because after 4 seconds it was not done: while it classified" in found["tflite_hang"].reason
    assert found["saved_model"].ok


@pytest.mark.parametrize(("behavior", "message"), [("truncated", "is truncated"), ("crash", "SIGSEGV")])
def test_without_the_reference_there_is_nothing_to_compare_with(tmp_path, splits, behavior, message) -> None:
    (tmp_path / f"{behavior}.tflite").write_bytes(b"x")
    broken = {"saved_model": ("tflite_float32", tmp_path / f"{behavior}.tflite")}
    with pytest.raises(ServingError, match=rf"reference saved_model cannot be measured: .*{message}"):
        measure(broken, "saved_model", *splits, latency=None, command=FAKE)


def test_a_process_that_never_starts_to_measure_is_no_variants_fault(tmp_path, splits) -> None:
    command = (sys.executable, "-c", "raise SystemExit('no numpy here')")
    with pytest.raises(ServingError, match=r"before any variant.*exit code 1; it last said: no numpy here"):
        measure(forms(tmp_path), "saved_model", *splits, command=command)


def test_bad_calls_are_refused_before_a_process_starts(tmp_path, splits) -> None:
    with pytest.raises(ServingError, match="'other' is not measured; expected one of saved_model"):
        measure(forms(tmp_path), "other", *splits, command=("false",))
    with pytest.raises(ServingError, match="no name of a variant"):
        measure({"../x": ("tflite_float32", tmp_path)}, "../x", *splits, command=("false",))
    with pytest.raises(ServingError, match="does not exist"):
        measure(forms(tmp_path), "saved_model", tmp_path / "none.npz", splits[1], command=("false",))


def test_records_come_back_as_they_were(tmp_path, splits) -> None:
    one = run(tmp_path, splits, latency=None)["saved_model"]
    assert from_record(to_record(one)) == one
    with pytest.raises(ServingError, match="other fields"):
        from_record({**to_record(one), "color": "red"})


def test_a_step_is_read_back_and_replaces_a_longer_one(tmp_path: Path) -> None:
    file = StepFile(tmp_path / "step")
    assert read_step(tmp_path / "step") is None
    file.write(Step("tflite_int8", "a long thing " * 10, 1, 5))
    file.write(Step("x", "y", 2, 5))
    assert read_step(tmp_path / "step") == Step("x", "y", 2, 5)
    file.close()
    assert read_step(tmp_path / "none") is None
