"""The names of variants: what `compress.variants` lists, taken apart.

A variant is a form (`tflite_int8`), or a technique that trains and a form (`cluster16_tflite_int8`). Read by the
config and by the stage Optimizer; imports no TensorFlow.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass

from serving.convert.forms import FORMS
from trainer.compress.technique import Technique, parse

REFERENCE = "saved_model"
"""The form that every other one is compared with: the SavedModel that the Pusher publishes."""


@dataclass(frozen=True)
class Variant:
    """One form of the model, with what is done to it before."""

    name: str
    form: str
    """A key of `serving.convert.forms.FORMS`."""
    technique: Technique | None = None
    """What trains the model on before it is converted; None: nothing."""


def parse_variant(name: str) -> Variant:
    """Take a variant's name apart.

    Args:
        name: a form, or `TECHNIQUE_FORM`.

    Returns:
        The variant.

    Raises:
        ValueError: there is no such form or technique, or they don't go together.
    """
    form = max((form for form in FORMS if name == form or name.endswith(f"_{form}")), key=len, default=None)
    if form is None:
        near = difflib.get_close_matches(name, FORMS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(
            f"{name!r} is no variant{hint} Expected a form ({', '.join(FORMS)}), or a technique and a form, such as "
            "cluster16_tflite_int8"
        )
    if name == form:
        return Variant(name, form)
    technique = parse(name.removesuffix(f"_{form}"))
    if form == REFERENCE:
        raise ValueError(f"{name!r}: a technique needs a form to convert to, such as {technique.name}_tflite_int8")
    if technique.quantizes and not form.endswith("_int8"):
        raise ValueError(
            f"{name!r}: quantization-aware training is for 8-bit forms; expected {technique.name}_tflite_int8"
        )
    return Variant(name, form, technique)
