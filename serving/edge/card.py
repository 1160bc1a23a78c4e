"""The card of a bundle: what the model takes, gives, was measured to do, and is not meant for.

Comes in: what the build knows, or the text of a `model_card.json` from anywhere. Goes out: a `ModelCard`. Called
by `serving.edge.bundle` and `serving.edge.verify`; apps may read the same file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from serving.edge import strict_json
from serving.edge.tflite_file import TensorInfo, read_tflite
from serving.errors import BundleError, ManifestError
from serving.manifest import check_path

CARD_FILE = "model_card.json"
PERSONALIZATION_FILE = "model_personalize.tflite"
PERSONALIZATION_SIGNATURES = ("train", "infer", "save", "restore")
FORMAT = 1
_HEX_64 = re.compile(r"[0-9a-f]{64}\Z")
Cell = str | int | float | bool | None


@dataclass(frozen=True)
class TensorCard:
    """One input or output of a file.

    Attributes:
        name: Name in the signature.
        dtype: `float32` or `uint8`.
        shape: Sizes; -1 where any size is possible. Images are height, width, channels.
        scale: Step of a quantized tensor: value = scale * (stored - zero_point); null if it is not quantized.
        zero_point: Stored number that stands for 0; null if it is not quantized.
    """

    name: str
    dtype: Literal["float32", "uint8"]
    shape: tuple[int, ...]
    scale: float | None = None
    zero_point: int | None = None

    @classmethod
    def of(cls, tensor: TensorInfo) -> TensorCard:
        """The same from what a file says.

        Raises:
            BundleError: Its dtype is none that a bundle may have.
        """
        if tensor.dtype not in ("float32", "uint8"):
            raise BundleError(f"{tensor.name!r} is {tensor.dtype}; expected float32 or uint8.")
        dtype: Literal["float32", "uint8"] = tensor.dtype  # type: ignore[assignment]
        return cls(tensor.name, dtype, tensor.shape, tensor.scale, tensor.zero_point)


@dataclass(frozen=True)
class FileCard:
    """One model file.

    Attributes:
        path: Name in the bundle.
        variant: Name of the variant in `results`.
        targets: What it is meant for, such as `gpu` or `cpu`.
        size: Bytes.
        sha256: Of the file, in hex.
        measured_sha256: Of the file that was measured, before metadata was added; the network is the same.
        signature: Key of the signature to call.
        input: What goes in.
        output: What comes out: the probability of each class.
        tolerance: How far a probability may lie from that in `samples/expected.json` on another device.
    """

    path: str
    variant: str
    targets: tuple[str, ...]
    size: int
    sha256: str
    measured_sha256: str
    signature: str
    input: TensorCard
    output: TensorCard
    tolerance: float

    def __post_init__(self) -> None:
        """Refuse paths that leave the bundle, and what is no hash or no tolerance."""
        try:
            check_path(self.path)
        except ManifestError as error:
            raise BundleError(str(error)) from error
        for value in (self.sha256, self.measured_sha256):
            if not _HEX_64.match(value):
                raise BundleError(f"sha256 of {self.path!r} is {value!r}, expected 64 hex digits.")
        if not 0 <= self.tolerance < 1:
            raise BundleError(f"tolerance of {self.path!r} is {self.tolerance}, expected 0 or more and below 1.")


@dataclass(frozen=True)
class ImageCard:
    """How an image becomes an input.

    Attributes:
        height: Pixels.
        width: Pixels.
        channels: 1 for gray, 3 for red, green, blue in this order.
        mean: Subtracted from a pixel in 0..255 for files with float input ...
        std: ... before dividing by this; files with uint8 input take the pixels as they are.
        resize: How images of another size are brought to this one.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    resize: str = "bilinear, half-pixel centers, no antialiasing"


@dataclass(frozen=True)
class PersonalizationCard:
    """The file that can be trained further on the device.

    Attributes:
        path: Name in the bundle.
        size: Bytes.
        sha256: Of the file, in hex.
        signatures: What each function takes and gives, by name.
    """

    path: str
    size: int
    sha256: str
    signatures: Mapping[str, Mapping[Literal["inputs", "outputs"], tuple[str, ...]]]

    def __post_init__(self) -> None:
        """Refuse another name."""
        if self.path != PERSONALIZATION_FILE:
            raise BundleError(f"the personalization file is {self.path!r}, expected {PERSONALIZATION_FILE!r}.")

    @classmethod
    def of(cls, tflite: bytes) -> PersonalizationCard:
        """The card of a file.

        Raises:
            BundleError: The file is damaged or lacks one of `train`, `infer`, `save` and `restore`.
        """
        signatures = read_tflite(tflite).signatures
        if missing := sorted(set(PERSONALIZATION_SIGNATURES) - set(signatures)):
            raise BundleError(
                f"the personalization file has the signatures {sorted(signatures)}; {missing} are missing."
            )
        named: dict[str, Mapping[Literal["inputs", "outputs"], tuple[str, ...]]] = {
            key: {"inputs": tuple(sorted(found.inputs)), "outputs": tuple(sorted(found.outputs))}
            for key, found in sorted(signatures.items())
        }
        return cls(PERSONALIZATION_FILE, len(tflite), hashlib.sha256(tflite).hexdigest(), named)


@dataclass(frozen=True)
class ModelCard:
    """Everything that the users of a bundle should know.

    Attributes:
        name: Name of the model.
        version: Version of the model; the number of a publication stands in `manifest.json`.
        description: What it does, in a sentence or two.
        files: The model files.
        image: How an image becomes an input.
        labels: Names of the classes in the order of the output, as in `labels.txt`.
        intended_use: What it is for.
        limits: What it is not for, and where it is known to fail.
        data: What it was trained and measured on.
        license: License of the model.
        author: Who made it.
        results: Rows of the table of variants, as they were measured.
        personalization: The file to train further on the device; null if there is none.
        slipway_version: Version of the software that made the bundle.
        format: Number of this format.
    """

    name: str
    version: str
    description: str
    files: tuple[FileCard, ...]
    image: ImageCard
    labels: tuple[str, ...]
    intended_use: str
    limits: tuple[str, ...]
    data: str
    license: str
    author: str = ""
    results: tuple[Mapping[str, Cell], ...] = field(default=())
    personalization: PersonalizationCard | None = None
    slipway_version: str = "unknown"
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Refuse another format, and files that stand twice."""
        if self.format != FORMAT:
            raise BundleError(f"the format is {self.format}, expected {FORMAT}; a newer slipway may have written it.")
        paths = [file.path for file in self.files]
        if not paths or len(set(paths)) != len(paths):
            raise BundleError(f"the model files are {paths}; expected one or more, each once.")

    def to_json(self) -> str:
        """JSON text that `from_json` reads back to an equal card."""
        return strict_json.encode(self)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read JSON text strictly.

        Raises:
            BundleError: As for `strict_json.decode`, or the card contradicts itself.
        """
        return strict_json.decode(cls, text)
