"""The file that goes on learning on the device, if the config asks for one.

Comes in: the float model. Goes out: a `.tflite` file with the signatures train, infer, save and restore, or the reason
why there is none. Called by `pipeline.optimizing.optimize`.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from serving.edge.personalize import convert_personalizable
from serving.errors import ServingError
from trainer import handover
from trainer.errors import TrainerError


def personalize(keras: Path, target: Path) -> str:
    """Write the file.

    Args:
        keras: folder of `trainer.handover`.
        target: the `.tflite` file to write.

    Returns:
        Why there is none; empty if there is one.
    """
    from trainer.personalization import export

    with tempfile.TemporaryDirectory(prefix="slipway-personalize-") as folder:
        try:
            saved_model = export(handover.load(keras).model, Path(folder, "saved_model"))
            # In a process of its own, since a converter may abort.
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                pool.submit(convert_personalizable, saved_model, target).result()
        except (TrainerError, ServingError) as error:
            return str(error)
        except BrokenProcessPool:
            return "the converter ended its process without a word"
    return ""
