"""Runs model files on the samples of a bundle, in a process of its own.

Comes in: a bundle, or what is to become one. Goes out: the probabilities that each model file gives. Called by
`serving.edge.bundle` and `serving.edge.verify`; the child process runs this module.

A damaged or hostile model can end the process that loads it, so no other work may be in that process.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import lean_tensorflow
from serving.edge.card import FileCard, ImageCard, ModelCard
from serving.edge.samples import FOLDER, read_png
from serving.errors import BundleError, ServingError
from serving.installed import installed

RUNTIMES = {
    "ai_edge_litert": "ai_edge_litert.interpreter",
    "tflite_runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}


@dataclass(frozen=True)
class Answers:
    """What one model file gave.

    Attributes:
        probabilities: [samples][classes]; None if it could not be run.
        problem: Why not, in one sentence; empty if it was run.
    """

    probabilities: list[list[float]] | None
    problem: str = ""


def find_runtime(wanted: str = "auto") -> str | None:
    """Name of an installed interpreter of `.tflite` files, the lightest first.

    Args:
        wanted: `auto`, or one of `RUNTIMES`.

    Returns:
        Its name; None if `auto` finds none.

    Raises:
        BundleError: The one wanted is unknown or not installed.
    """
    if wanted != "auto" and wanted not in RUNTIMES:
        raise BundleError(f"there is no runtime {wanted!r}; expected auto, none, {', '.join(RUNTIMES)}.")
    for name in RUNTIMES if wanted == "auto" else [wanted]:
        if installed(name):
            return name
    if wanted != "auto":
        raise BundleError(
            f"{wanted} is not installed; install it, for example ai-edge-litert, or leave the choice open."
        )
    return None


def collect(
    bundle: Path, card: ModelCard, images: Sequence[str], runtime: str, timeout_seconds: float = 300
) -> dict[str, Answers]:
    """Run every model file of a card on the samples, in a child process.

    Args:
        bundle: Folder with the model files and `samples/`.
        card: Which files to run, and how images become inputs.
        images: Names of the samples.
        runtime: One of `RUNTIMES`.
        timeout_seconds: How long all of it may take.

    Returns:
        What each file gave, by path. A crash or the end of the time is a problem of the file that was running.
    """
    job = {"bundle": str(bundle.resolve()), "card": card.to_json(), "images": list(images), "runtime": runtime}
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TF_CPP_MIN_LOG_LEVEL": "3"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "serving.edge.answers"],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            env=environment,
            check=False,
        )
        lines, end = done.stdout, _end(done)
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
        lines = output.decode() if isinstance(output, bytes) else output
        end = f"{runtime} gave no answer within {timeout_seconds:g} seconds"
    found = _read_lines(lines)
    for file in card.files:
        if file.path not in found:
            found[file.path] = Answers(None, end)
            end = f"was not run, because {end} on a file before it" if "was not run" not in end else end
    return found


def _end(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"the interpreter died of {signal.Signals(-done.returncode).name}"
    last = done.stderr.strip().splitlines()[-1:] or ["no message"]
    return f"the interpreter ended with exit code {done.returncode}: {last[0][:200]}"


def _read_lines(text: str) -> dict[str, Answers]:
    found = {}
    for line in text.splitlines():
        # Runtimes print too.
        if line.startswith('{"slipway_answers"'):
            path, probabilities, problem = json.loads(line)["slipway_answers"]
            found[path] = Answers(probabilities, problem)
    return found


def run_file(path: Path, file: FileCard, image: ImageCard, pixels: Sequence[Any], runtime: str) -> list[list[float]]:
    """Run one model file in this process.

    Args:
        path: The file.
        file: What the card says about it.
        image: How images become inputs.
        pixels: uint8 [H, W, C] each.
        runtime: One of `RUNTIMES`.

    Returns:
        Probabilities [samples][classes].

    Raises:
        ServingError: The file has no such signature, input or output, or does not run.
    """
    import numpy as np

    try:
        interpreter = importlib.import_module(RUNTIMES[runtime]).Interpreter(model_path=str(path), num_threads=1)
        runner = interpreter.get_signature_runner(file.signature)
        result = []
        for one in pixels:
            value = (one.astype(np.float32) - np.array(image.mean, np.float32)) / np.array(image.std, np.float32)
            if file.input.dtype != "float32":
                limits = np.iinfo(file.input.dtype)
                stored = np.round(value / np.float32(file.input.scale) + file.input.zero_point)
                value = np.clip(stored, limits.min, limits.max)
            answer = runner(**{file.input.name: value.astype(file.input.dtype)[None]})[file.output.name][0]
            if file.output.dtype != "float32":
                answer = (answer.astype(np.float32) - file.output.zero_point) * file.output.scale
            result.append([float(number) for number in answer])
    except (ValueError, RuntimeError, KeyError, TypeError, ImportError, OSError) as error:
        reason = " ".join(str(error).split())[:300]
        raise BundleError(f"{runtime} cannot run it: {reason or type(error).__name__}") from error
    return result


def _child() -> int:
    """Answer the job on standard input, one line for each model file."""
    job = json.load(sys.stdin)
    if job["runtime"] == "tensorflow":
        lean_tensorflow.install()
    card, bundle = ModelCard.from_json(job["card"]), Path(job["bundle"])
    pixels = [read_png((bundle / FOLDER / name).read_bytes(), card.image.channels) for name in job["images"]]
    for file in card.files:
        try:
            row: list[Any] = [file.path, run_file(bundle / file.path, file, card.image, pixels, job["runtime"]), ""]
        except ServingError as error:
            row = [file.path, None, str(error)]
        print(json.dumps({"slipway_answers": row}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_child())
