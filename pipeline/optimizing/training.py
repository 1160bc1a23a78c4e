"""The techniques that train: each one once, kept between runs.

Comes in: the techniques that the variants need. Goes out: a SavedModel of each, or the reason why there is none.
What was trained stays in a store below the work directory under a hash of everything it depends on, so a run that
was interrupted, or another list of variants, doesn't train it again.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.fingerprint import code_hashes
from pipeline.optimizing.sources import Sources
from serving.durable import move_folder
from trainer import handover
from trainer.compress.settings import FinetuneSettings
from trainer.compress.technique import Technique
from trainer.errors import TrainerError
from transform.progress import report

if TYPE_CHECKING:
    from trainer.inputs import Split

LOGGER = logging.getLogger("slipway.optimizing")

_DETAILS = "details.json"
_MODEL = "saved_model"


@dataclass(frozen=True)
class Trained:
    """What came of a technique."""

    saved_model: Path | None
    """SavedModel with the signatures `predict_float` and `predict_uint8`; None if it failed."""
    reason: str = ""
    details: dict[str, Any] = field(default_factory=dict)
    """What the technique tells about its work."""


def train_techniques(
    techniques: Iterable[Technique], settings: FinetuneSettings, sources: Sources, store: Path
) -> dict[str, Trained]:
    """Train a model on by every technique.

    Args:
        techniques: what to do; one after the other, each from the float model.
        settings: how.
        sources: the model and its data.
        store: folder of what earlier runs trained; what no technique of this run uses is removed.

    Returns:
        The outcome by the technique's name.
    """
    wanted = {technique.name: technique for technique in techniques}
    if not wanted:
        shutil.rmtree(store, ignore_errors=True)
        return {}
    base = _base_key(settings, sources)
    folders = {name: store / f"{name}-{hashlib.sha256(f'{base}{name}'.encode()).hexdigest()[:16]}" for name in wanted}
    if store.is_dir():
        for entry in store.iterdir():
            if entry not in folders.values():
                shutil.rmtree(entry, ignore_errors=True)
    outcomes = {name: kept for name, folder in folders.items() if (kept := _kept(folder)) is not None}
    missing = [technique for name, technique in wanted.items() if name not in outcomes]
    if missing:
        budget = sources.handover.train_settings.cache_mb
        splits = sources.split("train", budget), sources.split("eval", budget)
        for done, technique in enumerate(missing):
            report(done, len(missing), "techniques", training=technique.name)
            outcomes[technique.name] = _train(technique, settings, sources, splits, folders[technique.name])
    return outcomes


def _base_key(settings: FinetuneSettings, sources: Sources) -> str:
    """Return a hash of what every technique depends on: the model, the data, the settings, the code."""
    digest = hashlib.sha256(settings.model_dump_json().encode())
    for path in sorted(sources.keras.iterdir()):
        digest.update(path.read_bytes())
    for split in ("train", "eval"):
        for path in sorted((sources.examples / f"Split-{split}").iterdir()):
            digest.update(path.read_bytes())
    digest.update(json.dumps(code_hashes(["trainer.compress.compressing", "trainer.compress.exporting"], [])).encode())
    return digest.hexdigest()


def _kept(folder: Path) -> Trained | None:
    """Return what an earlier run trained; the details are written last."""
    if not (folder / _DETAILS).is_file():
        return None
    details = json.loads((folder / _DETAILS).read_text(encoding="utf-8"))
    return Trained(folder / _MODEL, details=details)


def _train(
    technique: Technique, settings: FinetuneSettings, sources: Sources, splits: tuple[Split, Split], folder: Path
) -> Trained:
    """Train by one technique and keep the result."""
    from trainer.compress.compressing import compress
    from trainer.compress.exporting import export

    # Loaded anew for each technique: some change the model that they are given.
    float_model = handover.load(sources.keras)
    part = folder.with_name(f".{folder.name}.{os.getpid()}")
    part.mkdir(parents=True)
    try:
        compressed = compress(
            technique.name,
            float_model.model,
            *splits,
            settings,
            float_model.train_settings,
            float_model.model_settings,
        )
        export(compressed, part / _MODEL)
        (part / _DETAILS).write_text(json.dumps(compressed.details, indent=1), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # a copy that was never finished
        move_folder(part, folder, last=(_DETAILS,))
    except TrainerError as error:
        return Trained(None, reason=str(error))
    except Exception as error:  # a library's own; the other variants need not suffer for it
        LOGGER.exception("the technique %s failed", technique.name)
        return Trained(None, reason=f"{technique.name} failed with {type(error).__name__}: {str(error)[:300]}")
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return Trained(folder / _MODEL, details=compressed.details)
