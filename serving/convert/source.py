"""The model to convert: any image classifier as one frozen function `predict`, with nothing else left in it.

Comes in: a SavedModel with a tensor signature, ours or from elsewhere. Goes out: a `Source`, and on demand a
SavedModel that holds `predict` alone: `image` float32 [N, H, W, C] in [0, 1] to `probabilities` float32 [N, K].
Called by every converter inside the worker process; needs the whole of TensorFlow.

All weights are constants, and what the probabilities do not depend on (labels, tables, assertions) is gone, so
that no string operation reaches a converter. The function is compared with the signature, run as TensorFlow
Serving runs it, before anything is converted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.convert.scores import Kind, Scores, kind_of, probe_images, softmax
from serving.convert.selection import PROBABILITIES, Choice, choose
from serving.errors import ConversionError, RunError, ServingError

SIGNATURE = "predict"
INPUT = "image"
_TOLERANCE = 1e-4
_FAKE_QUANT = "FakeQuantWithMinMax"


@dataclass(frozen=True)
class Source:
    """A classifier, ready to be converted.

    Attributes:
        function: Concrete function: `image` float32 [None, H, W, C] in [0, 1] to `{"probabilities": [None, K]}`.
        shape: Height, width and channels.
        classes: K.
        quantization_aware: Whether the graph carries the ranges of quantization aware training.
        operations: Kinds of TensorFlow operations in it, sorted.
        details: For the outcome: which signature and output, whether a softmax was added and why.
    """

    function: Any
    shape: tuple[int, int, int]
    classes: int
    quantization_aware: bool
    operations: tuple[str, ...]
    details: dict[str, Any]


def open_source(
    saved_model: Path | str, signature: str | None = None, options: Mapping[str, Any] | None = None
) -> Source:
    """Read a SavedModel and freeze its classifier.

    Args:
        saved_model: Directory of the SavedModel.
        signature: The signature to take; None chooses one (`serving.convert.selection`).
        options: `output`, the name of the output to take; `scores`, `probabilities` or `logits`, if it is known.

    Returns:
        The classifier.

    Raises:
        ConversionError: The model is no image classifier, or it cannot be frozen for any batch size.
        ServingError: The directory does not hold a model that loads.
    """
    options = options or {}
    choice, scores, reference = _reference(Path(saved_model), signature, options)
    import tensorflow as tf

    try:
        graph_def, feed, fetch = _freeze(Path(saved_model), choice)
        function = _predict(graph_def, feed, fetch, choice.shape, reference.shape[1], scores.kind)
    except (ValueError, TypeError, RuntimeError, tf.errors.OpError) as error:
        if isinstance(error, ServingError):
            raise
        raise ConversionError(f"{_what(choice)} cannot be frozen: {_first_line(error)}.") from error
    difference = _check(function, choice, reference)
    operations = tuple(sorted({node.op for node in graph_def.node} - {"Const", "Placeholder", "NoOp"}))
    details = {
        "signature": choice.signature,
        "output": choice.output,
        "input_dtype": choice.dtype,
        "softmax": ("added: " if scores.kind == "logits" else "in the model: ") + scores.evidence,
        "max_abs_difference_frozen": difference,
    }
    return Source(
        function=function,
        shape=choice.shape,
        classes=reference.shape[1],
        quantization_aware=any(name.startswith(_FAKE_QUANT) for name in operations),
        operations=operations,
        details=details,
    )


def save(source: Source, directory: Path) -> Path:
    """Write a SavedModel with the one signature `predict`; returns the directory."""
    import tensorflow as tf

    module = tf.Module()
    module.predict = source.function
    tf.saved_model.save(module, str(directory), signatures={SIGNATURE: source.function})
    return directory


def _reference(saved_model: Path, signature: str | None, options: Mapping[str, Any]) -> tuple[Choice, Scores, Any]:
    """What to convert, and its probabilities for the probe images, run as TensorFlow Serving would."""
    from serving.saved_model import SessionModel

    with SessionModel.load(saved_model) as model:
        choice = choose(model.signatures, signature, options.get("output"))
        try:
            raw = run_scores(model, choice, probe_images(choice.shape))
        except RunError as error:
            raise ConversionError(f"{_what(choice)} fails on ordinary images: {error}.") from error
    scores = scores_of(raw, choice, options.get("scores"))
    return choice, scores, softmax(raw) if scores.kind == "logits" else raw


def scores_of(raw: np.ndarray, choice: Choice, known: Kind | None = None) -> Scores:
    """Tell what the scores of the probe images are, unless it is known.

    Raises:
        ConversionError: They are neither logits nor probabilities, or `known` is neither.
    """
    if known is None:
        return kind_of(raw, _what(choice))
    if known not in ("probabilities", "logits"):
        raise ConversionError(f"the option `scores` is {known!r}; expected probabilities or logits.")
    return Scores(known, "as the option `scores` says")


def run_scores(model: Any, choice: Choice, pixels: np.ndarray) -> np.ndarray:
    """Run what was chosen of a `SessionModel` on raw pixels.

    Args:
        model: The loaded model.
        choice: What to run.
        pixels: uint8 [N, H, W, C].

    Returns:
        Its scores, float32 [N, K], whatever batch size the signature is bound to.
    """
    return run_images(model, choice, pixels if choice.dtype == "uint8" else pixels.astype(np.float32) / np.float32(255))


def run_images(model: Any, choice: Choice, images: np.ndarray) -> np.ndarray:
    """As `run_scores`, on images [N, H, W, C] of the dtype that the choice takes."""
    if choice.batch is None:
        return np.asarray(model.run(choice.signature, {choice.input: images})[choice.output])
    parts = []
    for start in range(0, len(images), choice.batch):
        part = images[start : start + choice.batch]
        full = np.concatenate([part, np.repeat(part[-1:], choice.batch - len(part), axis=0)])
        parts.append(model.run(choice.signature, {choice.input: full})[choice.output][: len(part)])
    return np.concatenate(parts)


def _freeze(saved_model: Path, choice: Choice) -> tuple[Any, str, str]:
    """GraphDef with constants for variables, the node to feed (float32 in [0, 1]) and the tensor to fetch."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    from serving.convert import graphs

    loaded = tf.saved_model.load(str(saved_model))
    function = loaded.signatures[choice.signature]
    # Signatures return their outputs flattened in the order of the names.
    place = sorted(function.structured_outputs).index(choice.output)
    frozen = convert_variables_to_constants_v2(function, lower_control_flow=False)
    feed, fetch = frozen.inputs[0].op.name, frozen.outputs[place].name
    graph_def = graphs.needed_for(frozen.graph.as_graph_def(), fetch)
    state = graphs.state_of(graph_def, feed)
    if state:
        raise ConversionError(
            f"{_what(choice)} depends on more than its image: {', '.join(state)}. Export the network without "
            "randomness, tables and other state."
        )
    if choice.dtype == "uint8":
        graphs.take_unit_floats(graph_def, feed)
        graph_def = graphs.needed_for(graph_def, fetch)
    graphs.open_batch(graph_def, feed, choice.shape)
    names = graphs.shorten(graph_def)
    node, _, place_of_output = fetch.partition(":")
    return graph_def, names[feed], f"{names[node]}:{place_of_output}"


def _predict(graph_def: Any, feed: str, fetch: str, shape: tuple[int, int, int], classes: int, kind: Kind) -> Any:
    import tensorflow as tf

    wrapped = tf.compat.v1.wrap_function(lambda: tf.graph_util.import_graph_def(graph_def, name=""), [])
    network = wrapped.prune(f"{feed}:0", fetch)

    def predict(image: Any) -> dict[str, Any]:
        scores = network(image)
        if scores.shape.rank != 2 or scores.shape[1] is None:
            scores = tf.reshape(scores, [-1, classes])
        return {PROBABILITIES: tf.nn.softmax(scores) if kind == "logits" else tf.identity(scores)}

    spec = tf.TensorSpec([None, *shape], tf.float32, name=INPUT)
    return tf.function(predict, input_signature=[spec], autograph=False).get_concrete_function()


def _check(function: Any, choice: Choice, reference: np.ndarray) -> float:
    """Largest difference between the frozen function, run on all probe images at once, and the signature."""
    import tensorflow as tf

    images = probe_images(choice.shape).astype(np.float32) / np.float32(255)
    remedy = f"Export {_what(choice)} for any batch size."
    try:
        answers = function(tf.constant(images))[PROBABILITIES].numpy()
    except (tf.errors.OpError, ValueError) as error:
        raise ConversionError(
            f"{_what(choice)} does not run on {len(images)} images at once: {_first_line(error)}. {remedy}"
        ) from error
    if answers.shape != reference.shape:
        raise ConversionError(
            f"{_what(choice)} gives {list(answers.shape)} for {len(images)} images, expected {list(reference.shape)}. "
            f"{remedy}"
        )
    difference = float(np.abs(answers - reference).max())
    if not difference <= _TOLERANCE:
        raise ConversionError(
            f"{_what(choice)}, frozen, differs from itself by up to {difference:.3g} in a probability, expected at "
            f"most {_TOLERANCE:g}. {remedy}"
        )
    return difference


def _what(choice: Choice) -> str:
    return f"signature {choice.signature!r} (output {choice.output!r})"


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0].strip() if lines else type(error).__name__)[:300].rstrip(". ")
