"""The clean-process check before a model is pushed: it loads as in production and answers real requests.

Comes in: an exported SavedModel and tf.Example files (TFRecord, gzipped or not, feature `image/encoded`).
Goes out: one JSON file `{ok, reason, checks, ...}`, or a `Verdict` where another process runs the check.
Called by the InfraValidator of the pipeline through `validate_in_subprocess`, and by hand:

    python -m serving.infra_probe MODEL_DIR --examples FILE.gz [FILE.gz ...] --count 8 --json OUT

A fresh process shows what the exporting process hides (live variables, registered classes), and a model that
aborts or hangs TensorFlow takes nobody down with it. A model that passes there is also served by the model server of
this package, and asked over REST and gRPC as clients will ask it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from serving.errors import Refused, ServingError

if TYPE_CHECKING:
    from serving.candidate_server import CandidateServer

_T = TypeVar("_T")
_IMAGE_FEATURE = "image/encoded"
_LOG_TAIL = 4000


@dataclass(frozen=True)
class Check:
    """One check of the probe: what was tried, whether it held, and what was seen."""

    name: str
    ok: bool
    detail: str
    milliseconds: float | None = None


@dataclass(frozen=True)
class Verdict:
    """Outcome of the infra check.

    Attributes:
        ok: Whether the model may be pushed.
        reason: Why not, in words; empty if ok.
        checks: What was tried, in order; empty if the process left no result.
        seconds: Wall time of the process.
        log: End of what the process wrote to its error output.
    """

    ok: bool
    reason: str
    checks: tuple[Check, ...]
    seconds: float
    log: str

    def require(self) -> None:
        """Raise `Refused` with the reason unless the model may be pushed."""
        if not self.ok:
            raise Refused(f"the model does not serve: {self.reason}.")


class _Probe:
    """Runs checks one after the other and keeps their outcome."""

    def __init__(self) -> None:
        self.checks: list[Check] = []

    def attempt(self, name: str, step: Callable[[], tuple[str, _T]]) -> _T | None:
        """Run one check; `step` gives a detail in words and a value. None if it failed."""
        start = time.perf_counter()
        value = None
        try:
            detail, value = step()
            ok = True
        except ServingError as error:
            ok, detail = False, str(error)
        self.checks.append(Check(name, ok, detail, round((time.perf_counter() - start) * 1000, 3)))
        return value

    def report(self) -> dict[str, Any]:
        """The result as plain data."""
        failed = [f"{check.name}: {check.detail}" for check in self.checks if not check.ok]
        return {
            "ok": not failed,
            "reason": "; ".join(failed),
            "checks": [asdict(check) for check in self.checks],
        }


def probe(
    model_dir: str | os.PathLike[str],
    example_files: Sequence[str | os.PathLike[str]],
    count: int,
    server: CandidateServer | None = None,
) -> dict[str, Any]:
    """Load a model in this process and check its answers, then those of a server.

    Args:
        model_dir: The exported SavedModel.
        example_files: TFRecord files of tf.Examples; the first `count` are used.
        count: How many examples to send.
        server: Serves the model; asked only if the model passed here. None to leave that out.

    Returns:
        `{ok, reason, checks: [{name, ok, detail, milliseconds}]}`.
    """
    from serving.saved_model import SessionModel

    run = _Probe()

    def load() -> tuple[str, SessionModel]:
        model = SessionModel.load(model_dir)
        return f"signatures {', '.join(model.signatures) or 'none'}", model

    model = run.attempt("load", load)
    if model is None:
        return run.report()
    with model:
        run.attempt("warmup", lambda: _replay_warmup(model, model_dir))
        examples = run.attempt("examples", lambda: _read_examples(example_files, count))
        if examples is not None:
            _check_answers(run, model, *examples)
            if server is not None and all(check.ok for check in run.checks):
                from serving.candidate_checks import check_server

                check_server(run.attempt, server, model, _only_input(model, "serving_default"), *examples)
    return run.report()


def _replay_warmup(model: Any, model_dir: str | os.PathLike[str]) -> tuple[str, None]:
    from serving.warmup import read_requests

    replayed: dict[str, int] = {}
    for request in read_requests(model_dir):
        model.run(request.signature, request.inputs)
        replayed[request.signature] = replayed.get(request.signature, 0) + 1
    counts = ", ".join(f"{number} x {name}" for name, number in replayed.items())
    return (f"replayed {counts}" if counts else "the model carries no warm-up requests"), None


def _read_examples(files: Sequence[str | os.PathLike[str]], count: int) -> tuple[str, tuple[list[bytes], list[bytes]]]:
    from google.protobuf.message import DecodeError
    from tensorflow.core.example import example_pb2

    from serving.records import first_records

    examples = first_records(files, count)
    if not examples:
        raise ServingError(f"found no example in {', '.join(map(str, files)) or 'no file'}; expected at least one")
    images = []
    for example in examples:
        try:
            feature = example_pb2.Example.FromString(example).features.feature
        except DecodeError as error:
            raise ServingError(f"a record is no tf.Example: {error}") from error
        values: Any = feature[_IMAGE_FEATURE].bytes_list.value if _IMAGE_FEATURE in feature else ()
        if len(values) != 1:
            raise ServingError(f"an example has {len(values)} values of {_IMAGE_FEATURE!r}, expected 1")
        images.append(values[0])
    return f"{len(examples)} examples", (examples, images)


def _check_answers(run: _Probe, model: Any, examples: list[bytes], images: list[bytes]) -> None:
    import numpy as np

    from serving import prediction_checks as checks

    rows = len(examples)

    def predict(signature: str, items: list[bytes]) -> dict[str, np.ndarray]:
        outputs = model.run(signature, {_only_input(model, signature): np.array(items, dtype=object)})
        checks.check_prediction(outputs, len(items))
        return dict(outputs)

    def by_examples() -> tuple[str, dict[str, np.ndarray]]:
        outputs = predict("predict_examples", examples)
        return f"{rows} answers over {outputs['probabilities'].shape[1]} classes", outputs

    def classify() -> tuple[str, None]:
        outputs = model.run("classify", {"inputs": np.array(examples, dtype=object)})
        checks.check_classification(outputs, by_example or predict("predict_examples", examples), rows)
        return "agrees with predict_examples", None

    def by_images() -> tuple[str, bool]:
        outputs = predict("serving_default", images)
        if by_example is not None:
            name = "serving_default and predict_examples"
            checks.check_same_probabilities(name, outputs["probabilities"], by_example["probabilities"])
        return f"{rows} answers on encoded images", True

    def single() -> tuple[str, None]:
        whole = predict("serving_default", images)["probabilities"]
        alone = predict("serving_default", images[:1])["probabilities"]
        checks.check_same_probabilities("alone and in a batch", alone, whole[:1])
        return "an image alone gets the answer it gets in a batch", None

    by_example = run.attempt("predict_examples", by_examples)
    run.attempt("classify", classify)
    if run.attempt("serving_default", by_images):
        run.attempt("single", single)


def _only_input(model: Any, signature: str) -> str:
    from serving.signature import unknown_signature

    if signature not in model.signatures:
        raise unknown_signature(signature, model.signatures)
    names = list(model.signatures[signature].inputs)
    if len(names) != 1:
        raise ServingError(f"signature {signature!r} takes {', '.join(names) or 'no inputs'}; expected one input")
    return str(names[0])


def validate_in_subprocess(
    model_dir: str | os.PathLike[str],
    example_files: Sequence[str | os.PathLike[str]],
    *,
    count: int = 8,
    timeout_seconds: float = 300,
) -> Verdict:
    """Run the probe in a fresh process with a time limit.

    Args:
        model_dir: The exported SavedModel.
        example_files: TFRecord files of tf.Examples.
        count: How many examples to send.
        timeout_seconds: Wall time after which the process is killed and the model refused.

    Returns:
        The verdict; a crash, an abort, a time-out or a missing result is a refusal with its reason, never an
        error.
    """
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="slipway-infra-") as scratch:
        result, log = Path(scratch) / "result.json", Path(scratch) / "log.txt"
        command = _command(os.path.abspath(model_dir), [os.path.abspath(f) for f in example_files], count, result)
        code = _run(command, log, timeout_seconds)
        seconds = time.monotonic() - start
        text = log.read_text("utf-8", "replace")[-_LOG_TAIL:]
        ok, reason, checks = _read_result(result, code, timeout_seconds, text)
    return Verdict(ok, reason, checks, round(seconds, 3), text)


def _command(model_dir: str, example_files: list[str], count: int, result: Path) -> list[str]:
    options = ["--examples", *example_files, "--count", str(count), "--json", str(result)]
    return [sys.executable, "-W", "ignore", "-m", "serving.infra_probe", model_dir, *options]


def _run(command: list[str], log: Path, timeout_seconds: float) -> int | None:
    """Exit code, negative for a signal; None if the time was up."""
    # A parent on a GPU may hold all its memory, and TensorFlow's own start-up log would bury the cause of a
    # crash.
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    # Run beside the package: whatever the caller's directory holds cannot shadow modules of the child.
    root = str(Path(__file__).resolve().parent.parent)
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, cwd=root, env=environment, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            start_new_session=True,
        )  # fmt: skip
        try:
            return process.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _read_result(
    result: Path, code: int | None, timeout_seconds: float, log: str
) -> tuple[bool, str, tuple[Check, ...]]:
    lines = [line for line in log.splitlines() if line.strip()]
    last = f"; its last words: {lines[-1].strip()}" if lines else ""
    if code is None:
        return False, f"the model did not load and answer within {timeout_seconds:g} seconds{last}", ()
    if code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        return False, f"the process that loaded the model was ended by signal {-code} ({name}){last}", ()
    try:
        data = json.loads(result.read_text("utf-8"))
        checks = tuple(Check(**check) for check in data["checks"])
        ok, reason = data["ok"], data["reason"]
    except (OSError, ValueError, KeyError, TypeError):
        return (
            False,
            f"the process that loaded the model left no readable result (exit code {code}){last}",
            (),
        )
    if ok is not True or code != 0:
        return (
            False,
            str(reason) or f"the process that loaded the model ended with exit code {code}{last}",
            checks,
        )
    return True, "", checks


def main(arguments: Sequence[str] | None = None, *, fork: bool = False) -> int:
    """Command line of the probe.

    Args:
        arguments: By default those of the process.
        fork: Whether the server may be forked from this process, which must have no Session and no threads yet.

    Returns:
        0 if the model passed, 3 if it was refused.
    """
    parser = argparse.ArgumentParser(prog="python -m serving.infra_probe", description="Check a model for serving.")
    parser.add_argument("model_dir", help="directory of the SavedModel")
    parser.add_argument("--examples", nargs="*", default=[], help="TFRecord files of tf.Examples")
    parser.add_argument("--count", type=int, default=8, help="how many examples to send")
    parser.add_argument("--json", required=True, help="where the result goes")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count is {options.count}; expected 1 or more")
    from serving.candidate_server import serving_candidate

    # It loads the model while the checks in this process run.
    with serving_candidate(options.model_dir, fork=fork) as server:
        report = probe(options.model_dir, options.examples, options.count, server)
    report.update(model_dir=options.model_dir, count=options.count)
    Path(options.json).write_text(json.dumps(report, indent=2), "utf-8")
    return 0 if report["ok"] else 3


if __name__ == "__main__":
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    from serving import lean_tensorflow

    if lean_tensorflow.install():
        # Imported before the fork, so that the server need not do it again.
        import tensorflow.python.client.session
        import tensorflow.python.framework.importer  # noqa: F401
        import tensorflow_serving.apis.prediction_log_pb2  # noqa: F401
    sys.exit(main(fork=True))
