"""A run that never ran: its record, and artifacts as the stages leave them."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.optimizing import results
from pipeline.records import HIT, RAN, SUCCEEDED, RunRecord, StageRecord
from serving.certify.picks import Pick
from serving.certify.table import Row
from serving.wire.tfrecord import frame
from transform import features

LABELS = ["cat & dog", "<script>alert(1)</script>", "ünïcode"]
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "\u202eright to left",
    "شعر",
    "🐈\u200d⬛ " * 20,
    "{{ 7 * 7 }}",
    "W" * 200,
    "a`b`c",
]
"""Names that a page must only show: markup, directions of writing, templates, and some that are too long."""
HISTORY = [
    {"epoch": n, "loss": 2.0 / n, "accuracy": 1 - 0.5 / n, "eval_loss": 2.2 / n, "eval_accuracy": 1 - 0.6 / n,
     "learning_rate": 0.001, "seconds": 1.0}
    for n in range(1, 6)
]  # fmt: skip


def png(color: tuple[int, int, int], side: int = 12) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (side, side), color).save(out, "PNG")
    return out.getvalue()


def write_examples(folder: Path, rows: list[tuple[str, str, bytes]]) -> None:
    """Write examples (origin, label, content) into a split's folder."""
    import tensorflow as tf

    folder.mkdir(parents=True)
    with gzip.open(folder / "data_tfrecord-00000-of-00001.gz", "wb") as file:
        for origin, label, content in rows:
            values = {
                features.IMAGE: content,
                features.DIGEST: origin.encode().hex().encode(),
                features.ORIGIN: origin.encode(),
                features.LABEL_NAME: label.encode(),
            }
            example = tf.train.Example()
            for name, value in values.items():
                example.features.feature[name].bytes_list.value.append(value)
            file.write(frame(example.SerializeToString()))


def ingestion(labels: list[str] = LABELS) -> dict:
    return {
        "source": "made up", "labels": labels, "listed": 30, "written": 27,
        "examples": {split: dict.fromkeys(labels, n) for split, n in (("train", 5), ("eval", 2), ("test", 2))},
        "left_out": {"unreadable": 1}, "ignored": {"not an image": 2},
        "duplicates": {"copies": 1, "groups": [["train/0.png", "train/gone.png"]]},
        "conflicts": {
            "contents": 1,
            "groups": [[{"name": "train/1.png", "label": labels[0]}, {"name": "train/2.png", "label": labels[1]}]],
        },
        "unreadable": {"count": 1, "share": 0.03, "files": [{"name": "bad <b>.png", "reason": "empty"}]},
        "images": {"formats": {"png": 27}, "reencoded": 0, "height": [12, 12, 12], "width": [10, 12, 20],
                   "sizes": {"12x12x3": 27}, "different_sizes": 2},
        "splits": {"given": [], "from_ledger": 0, "redealt": False},
    }  # fmt: skip


def summary(accuracy: float, baseline: float | None, labels: list[str] = LABELS) -> dict:
    confusion = [[2 if row == column else 0 for column in range(len(labels))] for row in range(len(labels))]
    confusion[1][:2] = [1, 1]

    def entry(model: str, slice_: dict[str, str], value: float) -> dict:
        figures = {"precision": value, "recall": value, "f1": value, "auc": None}
        return {
            "model": model, "slice": slice_,
            "metrics": {"example_count": 2.0 * len(labels), "accuracy": value, "log_loss": 1 - value,
                        "calibration_error": 0.1},
            "per_class": {label: figures for label in labels},
            "confusion": confusion,
            "reliability": [[0.5, 0.5, 2], [0.9, 1.0, 4]],
        }  # fmt: skip

    slices = [entry("candidate", {}, accuracy), entry("candidate", {"label_name": labels[0]}, accuracy)]
    if baseline is not None:
        slices.append(entry("baseline", {}, baseline))
    return {"labels": labels, "slices": slices}


class MadeUp:
    """A work directory with records whose artifacts exist."""

    def __init__(self, root: Path):
        self.root = root
        self.records = root / "runs"
        self.records.mkdir(parents=True)

    def _artifact(self, stage: str, key: str, number: int, files: dict[str, str]) -> str:
        folder = self.root / "artifacts" / stage / key / str(number)
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_text(content, encoding="utf-8")
        return str(folder)

    def run(
        self,
        run_id: str,
        accuracy: float = 0.9,
        baseline: float | None = None,
        number: int = 1,
        labels: list[str] = LABELS,
        mistaken: bool = True,
    ) -> RunRecord:
        """Write a whole run and return its record."""
        found = json.dumps(ingestion(labels))
        examples = self._artifact("ExampleGen", "examples", number, {"ingest_report.json": found})
        rows = [(f"train/{n}.png", labels[n % len(labels)], png((20 * n, 40, 90))) for n in range(9)]
        write_examples(Path(examples, "Split-train"), rows)
        write_examples(Path(examples, "Split-test"), [("test/0.png", labels[0], png((200, 0, 0)))])
        mistake = f"test/0.png,{b'test/0.png'.hex()},{labels[0]},{labels[1]},0.97,{int(not mistaken)}\n"
        right = f"test/1.png,00,{labels[0]},{labels[0]},0.99,1\n"
        predictions = "origin,digest,label,predicted,probability,correct\n" + mistake + right
        trials = [
            {"trial_id": "1", "score": 0.9, "learning_rate": 0.001},
            {"trial_id": "0", "score": 0.5, "learning_rate": 0.1},
        ]
        outputs = {
            "ExampleGen": [examples],
            "Tuner": [self._artifact("Tuner", "tuner_results", number, {"tuner_results.json": json.dumps(trials)})],
            "Trainer": [self._artifact("Trainer", "model_run", number, {"history.json": json.dumps(HISTORY)})],
            "Evaluator": [
                self._artifact(
                    "Evaluator", "evaluation", number, {"summary.json": json.dumps(summary(accuracy, baseline, labels))}
                )
            ],
            "Optimizer": [self._forms(number)],
            "BulkInferrer": [
                self._artifact("BulkInferrer", "inference_result", number, {"predictions-0.csv": predictions})
            ],
            "Pusher": [self._artifact("Pusher", "pushed_model", number, {})],
        }
        record = RunRecord(run_id, "made-up", "c.yaml", "2026-01-01T00:00:00Z", 1, "the.log", "f", SUCCEEDED)
        record.executed, record.seconds, record.version, record.served = True, 12.5, number, f"served/{number}"
        record.settings = {"name": "made-up", "train": {"epochs": 4 + number}}
        record.environment = {"commit": "0123abc", "Python": "3.10"}
        record.warnings = ["qat cannot be applied to this model"]
        record.verdicts = [{"gate": "Evaluator", "passed": True, "sentence": "accuracy is fine", "checks": []}]
        record.stages = [
            StageRecord(name, HIT if name == "ExampleGen" else RAN, "first run", f"of {name}", 2.0, 1.5, 800.0, folders)
            for name, folders in outputs.items()
        ]
        record.save(self.records)
        return record

    def _forms(self, number: int) -> str:
        folder = self._artifact(
            "Optimizer", "results", number, {"front.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>"}
        )
        rows = [
            Row("saved_model", "", "saved_model", "saved_model", "ok", bytes=500_000, gz_bytes=400_000, accuracy=0.9,
                cpu_ms_b1_p50=1.0, ratio=1.0, sha256="0" * 64),
            Row("tflite_int8", "", "tflite_int8", "tflite", "ok", bytes=90_000, gz_bytes=70_000, accuracy=0.89,
                delta=-0.01, ci95_low=-0.02, ci95_high=0.0, top1_agreement=0.98, cpu_ms_b1_p50=0.1, ratio=10.0),
            Row("onnx_float32", "", "onnx_float32", "onnxruntime", "skipped", "onnxruntime is not installed"),
        ]  # fmt: skip
        picks = {"mobile_cpu": Pick("mobile_cpu", "tflite_int8", "the fastest that passed")}
        about = {"model": "m"}
        from serving.certify.table import write_json

        extra = {"picks": {name: vars(pick) for name, pick in picks.items()}, "front": ["tflite_int8"]}
        write_json(rows, Path(folder, results.TABLE_FILE), {**about, **extra})
        return folder


def random_history(rng: np.random.Generator, epochs: int) -> list[dict[str, float]]:
    """Return a history of random figures."""
    return [
        {"epoch": n + 1, **{name: float(rng.random()) for name in HISTORY[0] if name != "epoch"}} for n in range(epochs)
    ]
