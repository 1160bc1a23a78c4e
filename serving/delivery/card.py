"""The card of one form for servers: what it takes and gives, what runs it, what it was measured to do.

Comes in: what the build knows, or the text of a `card.json`. Goes out: a `FormCard`. Called by
`serving.delivery.build` and `serving.delivery.publishing`; deployment scripts may read the same file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from serving.edge import strict_json
from serving.edge.card import Cell
from serving.errors import BundleError

CARD_FILE = "card.json"
FORMAT = 1


@dataclass(frozen=True)
class TensorCard:
    """The input or the output.

    Attributes:
        name: Name of the tensor.
        dtype: `float32` or `uint8`.
        shape: Sizes; -1 where any size is possible. Images are height, width, channels.
        meaning: What the numbers are.
    """

    name: str
    dtype: Literal["float32", "uint8"]
    shape: tuple[int, ...]
    meaning: str


@dataclass(frozen=True)
class QuantizationCard:
    """In which numbers the model calculates.

    Attributes:
        scheme: `none` for 32-bit floats, `float16`, `bfloat16` or `int8`.
        description: The same in words.
        calibration_images: How many images set the ranges of integers; null if none did.
        calibration_seed: Seed with which they were drawn from the train split; null if there are none.
    """

    scheme: Literal["none", "float16", "bfloat16", "int8"]
    description: str
    calibration_images: int | None = None
    calibration_seed: int | None = None


@dataclass(frozen=True)
class RuntimeCard:
    """What runs the model.

    Attributes:
        name: Name of the runtime, as in the table.
        package: Its Python package.
        version: The version with which the model was measured.
        requires: What the machine needs besides, in words; empty if nothing.
    """

    name: Literal["onnxruntime", "openvino", "tftrt"]
    package: str
    version: str
    requires: str = ""


@dataclass(frozen=True)
class ModelFile:
    """One file of the model.

    Attributes:
        path: Path in the folder of the form.
        size: Bytes.
        sha256: In hex.
    """

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class FormCard:
    """Everything that whoever deploys a form should know.

    Attributes:
        name: Name of the model.
        version: Version of the model that the form was made from.
        description: What it does.
        target: What it is for: `server_cpu` or `server_gpu`.
        reason: Why this form was picked for the target.
        variant: Name of the variant in the results table.
        form: Name of the form.
        runtime: What runs it.
        load: What the runtime is to load, in the folder: a file, or the directory of a SavedModel.
        files: The files of the model.
        measured_sha256: Checksum of the results table for this variant: what ships is what was measured.
        input: What goes in.
        output: What comes out.
        resize: How images of another size are brought to that of the input.
        quantization: In which numbers it calculates.
        labels: Names of the classes in the order of the output, as in `labels.txt`.
        results: The row of the results table.
        intended_use: What the model is for.
        limits: What it is not for.
        data: What it was trained and measured on.
        license: License of the model.
        author: Who made it.
        slipway_version: Version of the software that made the folder.
        format: Number of this format.
    """

    name: str
    version: str
    description: str
    target: Literal["server_cpu", "server_gpu"]
    reason: str
    variant: str
    form: str
    runtime: RuntimeCard
    load: str
    files: tuple[ModelFile, ...]
    measured_sha256: str
    input: TensorCard
    output: TensorCard
    quantization: QuantizationCard
    labels: tuple[str, ...]
    results: Mapping[str, Cell]
    intended_use: str
    limits: tuple[str, ...]
    data: str
    license: str
    author: str = ""
    resize: str = "bilinear, half-pixel centers, no antialiasing"
    slipway_version: str = "unknown"
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse another format."""
        if self.format != FORMAT:
            raise BundleError(f"the format is {self.format}, expected {FORMAT}; a newer slipway may have written it.")

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to an equal card."""
        return strict_json.encode(self)

    @classmethod
    def from_json(cls, text: str) -> FormCard:
        """Read JSON text strictly.

        Raises:
            BundleError: As for `strict_json.decode`, or another format.
        """
        return strict_json.decode(cls, text)
