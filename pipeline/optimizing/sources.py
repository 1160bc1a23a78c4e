"""What the making of variants reads: a blessed model with its Keras weights, and its examples, decoded.

Comes in: folders of TFX artifacts. Goes out: the model in both its shapes, the splits, and the images that measuring
and calibrating need, as files for the processes that do it. Called by `pipeline.optimizing.optimize`.
"""

from __future__ import annotations

import glob
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from serving.measure.images import ImageBatches
    from trainer.handover import Handover
    from trainer.inputs import Split

LABELS_FILE = "labels.txt"


@dataclass(frozen=True)
class Sources:
    """A model and its data, as artifacts hold them.

    Attributes:
        saved_model: the exported model.
        keras: folder of `trainer.handover`.
        examples: folder of the examples artifact, with `Split-<name>` and `labels.txt` in it.
        transform_graph: folder of the Transform component's artifact.
    """

    saved_model: Path
    keras: Path
    examples: Path
    transform_graph: Path

    @cached_property
    def labels(self) -> list[str]:
        """Class names by index."""
        return (self.examples / LABELS_FILE).read_text(encoding="utf-8").removesuffix("\n").split("\n")

    @cached_property
    def handover(self) -> Handover:
        """The Keras model, with the settings that made it."""
        from trainer import handover

        return handover.load(self.keras)

    @cached_property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the model's input."""
        from serving.saved_model import SessionModel

        with SessionModel.load(self.saved_model) as model:
            sizes = model.signatures["predict_uint8"].inputs["image"].shape
        assert sizes is not None
        height, width, channels = (int(size or 0) for size in sizes[1:])
        return height, width, channels

    def split(self, name: str, cache_mb: int = 0) -> Split:
        """Return a split, decoded by the transform graph.

        Args:
            name: `train`, `eval` or `test`.
            cache_mb: memory for decoded pixels; a larger split is decoded whenever it is read.

        Raises:
            ConfigError: the split holds no examples.
        """
        from trainer import inputs
        from trainer.run import decoder

        files = sorted(glob.glob(str(self.examples / f"Split-{name}" / "*")))
        if not files:
            raise ConfigError(
                f"compress reads the split {name}, but there are no examples in it; give it a share in data.split, or "
                "choose another split in compress.choose_split and compress.report_split"
            )
        return inputs.load(files, decoder(str(self.transform_graph)), self.shape, cache_mb * 1_000_000)

    def images(self, split: str, count: int, seed: int) -> ImageBatches:
        """Return images of a split with their labels.

        Args:
            split: its name.
            count: how many at most.
            seed: draws them where the split has more.
        """
        from serving.measure.images import ImageBatches
        from trainer import inputs

        return ImageBatches.of_arrays(*inputs.sample(self.split(split), count, seed))
