"""Compression that trains: a fitted float model comes in, a smaller or quantization-aware one goes out.

One technique stands in one module: pruning, clustering, quantization-aware training, removal of whole
channels, distillation. `compressing.compress` runs a technique by its name, `exporting.export` writes the
result for the converters. Called by the pipeline's optimization stage; only names and settings are imported
here, since a config is read without TensorFlow.
"""

from __future__ import annotations

from trainer.compress.settings import DistillSettings, FinetuneSettings
from trainer.compress.technique import Technique, parse

__all__ = ["DistillSettings", "FinetuneSettings", "Technique", "parse"]
