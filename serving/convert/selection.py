"""Which signature, input and output of a SavedModel make it an image classifier.

Comes in: the signatures of a model. Goes out: a `Choice`, or an error that says what the model lacks. Called by
`serving.convert.source`, which converts what was chosen, and by `serving.forms.saved_model`, which runs it, so
that both speak of the same function.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from serving.errors import ConversionError
from serving.signature import Signature, TensorSpec, unknown_signature

PROBABILITIES = "probabilities"
# The names that this project exports, then the one that most others use.
FLOAT_FIRST = ("predict", "predict_float", "predict_uint8", "serving_default")
UINT8_FIRST = ("predict_uint8", "predict", "predict_float", "serving_default")
_REMEDY = (
    "Export a signature with one input float32 [N, H, W, C] in [0, 1] or uint8 [N, H, W, C], of known height, "
    "width and channels, and an output float32 [N, K] of logits or probabilities"
)


@dataclass(frozen=True)
class Choice:
    """What of a model is its classifier.

    Attributes:
        signature: Name of the signature.
        input: Name of its one input.
        output: Name of the output float32 [N, K].
        dtype: `float32` for values in [0, 1], `uint8` for raw pixels.
        shape: Height, width and channels.
        batch: Number of images that the signature is bound to; None for any.
    """

    signature: str
    input: str
    output: str
    dtype: Literal["uint8", "float32"]
    shape: tuple[int, int, int]
    batch: int | None


def choose(
    signatures: Mapping[str, Signature],
    signature: str | None = None,
    output: str | None = None,
    order: Sequence[str] = FLOAT_FIRST,
) -> Choice:
    """Choose the signature and its output.

    Args:
        signatures: Signatures of the model by name.
        signature: The one to take; None takes the first of `order` that fits, then the only one that fits.
        output: The output to take; None takes `probabilities`, then the only one that fits.
        order: Names to look for first.

    Returns:
        The choice.

    Raises:
        ConversionError: Nothing fits, or several do; the message says why, signature by signature.
        SignatureError: There is no signature of the name asked for.
    """
    if signature is not None:
        if signature not in signatures:
            raise unknown_signature(signature, signatures)
        return _fit(signatures[signature], output)
    fitting: dict[str, Choice] = {}
    reasons = []
    for name in sorted(signatures):
        try:
            fitting[name] = _fit(signatures[name], output)
        except ConversionError as error:
            reasons.append(str(error).partition(". ")[0])
    preferred = next((name for name in order if name in fitting), None)
    if preferred is not None:
        return fitting[preferred]
    if len(fitting) == 1:
        return next(iter(fitting.values()))
    if fitting:
        raise ConversionError(
            f"several signatures are image classifiers: {_quoted(fitting)}. Choose one with --signature."
        )
    raise ConversionError(
        f"the model has no signature of an image classifier: {'; '.join(reasons) or 'it has none at all'}. {_REMEDY}."
    )


def _fit(signature: Signature, output: str | None) -> Choice:
    where = f"signature {signature.name!r}"
    if len(signature.inputs) != 1:
        names = _quoted(signature.inputs) or "none"
        raise ConversionError(f"{where} has {len(signature.inputs)} inputs ({names}), expected one. {_REMEDY}.")
    (image,) = signature.inputs.values()
    if image.dtype not in ("float32", "uint8"):
        raise ConversionError(f"{where} takes {image}, expected float32 or uint8 pixels. {_REMEDY}.")
    if image.shape is None or len(image.shape) != 4:
        raise ConversionError(f"{where} takes {image}, expected [N, H, W, C]. {_REMEDY}.")
    batch, height, width, channels = image.shape
    if not height or not width or not channels:
        raise ConversionError(f"{where} takes {image}, whose height, width or channels are unknown. {_REMEDY}.")
    dtype = cast(Literal["uint8", "float32"], image.dtype)
    return Choice(signature.name, image.name, _output(signature, output), dtype, (height, width, channels), batch)


def _output(signature: Signature, wanted: str | None) -> str:
    where = f"signature {signature.name!r}"
    if wanted is not None:
        if wanted not in signature.outputs:
            raise ConversionError(f"{where} has no output {wanted!r}, only {_quoted(signature.outputs)}. {_REMEDY}.")
        if not _is_scores(signature.outputs[wanted]):
            raise ConversionError(f"{where} gives {signature.outputs[wanted]}, expected float32 [N, K]. {_REMEDY}.")
        return wanted
    fitting = [name for name, spec in signature.outputs.items() if _is_scores(spec)]
    if PROBABILITIES in fitting:
        return PROBABILITIES
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise ConversionError(f"{where} has several outputs float32 [N, K]: {_quoted(fitting)}. Name the one to take.")
    given = "; ".join(str(spec) for spec in signature.outputs.values()) or "nothing"
    raise ConversionError(f"{where} gives {given}, expected an output float32 [N, K]. {_REMEDY}.")


def _is_scores(spec: TensorSpec) -> bool:
    # Some exporters lose the static shape of the output; what comes out is checked when it is run.
    return spec.dtype == "float32" and (spec.shape is None or (len(spec.shape) == 2 and spec.shape[1] != 1))


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(repr(name) for name in names)
