"""Converts a model that goes on learning on the device.

Comes in: a SavedModel with the signatures `train`, `infer`, `save` and `restore`, such as
`trainer.personalization` writes. Goes out: one `.tflite` file with the same four, for the standard runtime.
Called by the export of the mobile bundle, if the config asks for it.
"""

from __future__ import annotations

import os
from pathlib import Path

from serving.edge.card import PERSONALIZATION_SIGNATURES, PersonalizationCard
from serving.edge.tflite_file import read_tflite
from serving.errors import ConversionError


def convert_personalizable(saved_model: str | os.PathLike[str], out_file: str | os.PathLike[str]) -> Path:
    """Convert the four functions into one file that shares their variables.

    Args:
        saved_model: The SavedModel.
        out_file: The `.tflite` file to write; it appears when it is complete.

    Returns:
        The file.

    Raises:
        ConversionError: A signature is missing, or an operation is not in the standard runtime.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import ConverterError

    target = Path(out_file)
    try:
        converter = tf.lite.TFLiteConverter.from_saved_model(
            str(saved_model), signature_keys=list(PERSONALIZATION_SIGNATURES)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        converter.experimental_enable_resource_variables = True
        content = converter.convert()
    except (ValueError, RuntimeError, OSError, ConverterError) as error:
        raise ConversionError(_explain(saved_model, error)) from error
    if custom := read_tflite(content).custom_operations:
        raise ConversionError(f"{saved_model} needs {', '.join(custom)}, which the standard runtime lacks.")
    PersonalizationCard.of(content)
    beside = target.with_name(f"{target.name}.new")
    beside.write_bytes(content)
    os.replace(beside, target)
    return target


def _explain(saved_model: str | os.PathLike[str], error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    return (
        f"{saved_model} cannot be converted for training on the device: {reason}. Expected the signatures "
        f"{', '.join(PERSONALIZATION_SIGNATURES)} of operations that the standard runtime has."
    )
