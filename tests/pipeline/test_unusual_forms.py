"""A run in which nearly every form comes to grief, each for another reason: rows with reasons, and a run that goes on.

The failures are brought about from outside, by a `sitecustomize` that every process of the run imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.optimizing import results
from pipeline.records import records
from serving.certify.table import Row

pytestmark = [pytest.mark.slow, pytest.mark.e2e]

ROOT = Path(__file__).resolve().parents[2]

# Lets one conversion abort, and hides one package as if it were not installed.
HOOKS = """
import json, os, sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "onnxruntime":
            raise ImportError(f"{name} is hidden")

sys.meta_path.insert(0, Hidden())
words = sys.orig_argv
if "serving.convert.worker" in words:
    with open(words[words.index("serving.convert.worker") + 1], encoding="utf-8") as file:
        if json.load(file)["form"] == "tflite_float16":
            os.abort()
"""
NETWORK = """
import tf_keras
from trainer.models import register

@register("odd")
def odd(settings, input_shape, classes):
    image = tf_keras.Input(input_shape, name="image")
    inner = tf_keras.layers.Conv2D(8, 3, 2, "same", activation="relu")(image)
    inner = tf_keras.layers.Lambda(lambda values: 2.0 * values, name="twice")(inner)
    inner = tf_keras.layers.GlobalAveragePooling2D()(inner)
    return tf_keras.Model(image, tf_keras.layers.Dense(classes, name="logits")(inner))
"""
YAML = """
name: odd
data: {{source: {folder}}}
transform: {{size: [8, 8]}}
model: {{name: odd, module: odd.py}}
train: {{epochs: 1, batch_size: 32}}
compress:
  variants: [tflite_float32, tflite_float16, onnx_float32, qat_tflite_int8, prune50_tflite_float32, tftrt_fp16]
  examples: 40
  rounds: 2
  finetune: {{epochs: 1}}
  budget: {{max_accuracy_drop: null, max_worst_class_drop: null, min_top1_agreement: null}}
bulk_infer: {{enabled: false}}
"""


@pytest.fixture(scope="module")
def rows(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    home = tmp_path_factory.mktemp("home")
    for name, text in {
        "hooks/sitecustomize.py": HOOKS,
        "odd.py": NETWORK,
        "odd.yaml": YAML.format(folder=shapes),
    }.items():
        (home / name).parent.mkdir(exist_ok=True)
        (home / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(home / "hooks")])}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "pipeline", "optimize", "odd.yaml", "--workdir", "work"],
        cwd=home, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert 0 < done.stdout.index("known now: qat cannot be applied") < done.stdout.index("ExampleGen")
    record = next(records(home / "work" / "runs"))
    folder = results.find(record.stage("Optimizer").outputs)
    assert folder is not None
    return {row.variant: row for row in results.read(folder).rows}


@pytest.mark.parametrize(
    ("variant", "status", "words"),
    [
        ("saved_model", "ok", ""),
        ("tflite_float32", "ok", ""),
        ("tflite_float16", "failed", "the conversion was ended by SIGABRT (it aborted)"),
        ("onnx_float32", "skipped", "onnxruntime not installed; pip install 'tfx-slipway[convert]'"),
        ("qat_tflite_int8", "failed", "layer 'twice' (Lambda): it is code without a configuration"),
        ("prune50_tflite_float32", "failed", "no kernel beside its head and its first convolution"),
        ("tftrt_fp16", "skipped", "no_gpu: TensorFlow finds no GPU here"),
    ],
)
def test_each_is_a_row_with_its_reason_and_the_run_goes_on(
    rows: dict[str, Row], variant: str, status: str, words: str
) -> None:
    assert rows[variant].status == status
    assert words in rows[variant].reason
