"""TFLite metadata: what a `.tflite` file says about its labels, its normalization and its origin.

Comes in: the bytes of a `.tflite` file and a `Description`. Goes out: the bytes of a file that the TFLite Task
Library, MediaPipe and Android Studio read without being told anything. Called by `serving.edge.bundle`, and
for reading by `serving.edge.verify`.

The description is a FlatBuffer of its own (identifier `M001`) in a buffer of the model; the labels lie in a
zip archive behind it. Field numbers: `metadata_schema.fbs` of TFLite Support, version 0.4.4. Ten of its tables
are used, few enough to be written by number: the package itself asks for protobuf below 4 and libusb, and
MediaPipe, the other one that carries the schema, for OpenCV and another absl-py than TFX.

The model is not packed anew: a new outermost table is put in front of it and refers to the old parts, so that
not a byte of the network changes. TensorFlow's Python schema, which reads and writes the whole model, would drop
what a newer converter put in, and needs TensorFlow.
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.edge.flatbuffer import Table
from serving.edge.tflite_file import IDENTIFIER, METADATA_NAME, ModelField, read_tflite
from serving.errors import BundleError

LABELS_FILE = "labels.txt"
METADATA_IDENTIFIER = b"M001"
_MIN_PARSER = "1.0.0"
_IMAGE, _FEATURE = 2, 1  # union ContentProperties
_NORMALIZATION = 1  # union ProcessUnitOptions
_RGB, _GRAYSCALE = 1, 2  # enum ColorSpaceType
_AXIS_LABELS = 2  # enum AssociatedFileType
_ALIGNMENT = 16
_LARGEST = 2**31 - 1


@dataclass(frozen=True)
class Description:
    """What the metadata of an image classifier says.

    Attributes:
        name: Name of the model.
        labels: Names of the classes in the order of the outputs.
        channels: 1 for gray, 3 for RGB.
        description: What the model does, for people.
        version: Version of the model.
        author: Who made it.
        license: License of the model.
        mean: Subtracted from each channel of a pixel in 0..255 ...
        std: ... before dividing by this. 0 and 255 give values in [0, 1]. For a file that takes uint8 with
            scale 1/255 and zero point 0 the same numbers mean that raw pixels go in.
        minimum: Smallest value that the network was trained for, after normalization.
        maximum: Largest one.
        input_name: Name of the input.
        output_name: Name of the output.
    """

    name: str
    labels: tuple[str, ...]
    channels: int = 3
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (255.0,)
    minimum: float = 0.0
    maximum: float = 1.0
    input_name: str = "image"
    output_name: str = "probabilities"

    def __post_init__(self) -> None:
        """Refuse what the readers of the format would misread."""
        check_labels(self.labels)
        if self.channels not in (1, 3):
            raise BundleError(f"the images have {self.channels} channels; expected 1 (gray) or 3 (RGB).")
        if len(self.mean) != len(self.std) or len(self.mean) not in (1, self.channels):
            raise BundleError(
                f"mean {self.mean} and std {self.std} do not fit {self.channels} channels; expected one number "
                "for all channels, or one for each."
            )
        numbers = (*self.mean, *self.std, self.minimum, self.maximum)
        if not all(map(math.isfinite, numbers)) or 0.0 in self.std:
            raise BundleError(f"mean {self.mean} or std {self.std} is not finite, or std is 0.")


def check_labels(labels: Sequence[str]) -> None:
    """Refuse labels that a file with one label a line cannot hold.

    Raises:
        BundleError: There are none, one is empty or stands twice, or one holds a line break.
    """
    if not labels:
        raise BundleError("there are no labels; expected the name of each class in the order of the outputs.")
    for label in labels:
        if not isinstance(label, str) or not label.strip() or len(label.splitlines()) != 1 or "\0" in label:
            raise BundleError(f"label {label!r} cannot stand on a line of its own; give each class a name of one line.")
    if len(set(labels)) != len(labels):
        twice = sorted({label for label in labels if list(labels).count(label) > 1})
        raise BundleError(f"labels {twice} stand twice; give each class a name of its own.")


def labels_text(labels: Sequence[str]) -> str:
    """Content of `labels.txt`: one label a line."""
    return "".join(f"{label}\n" for label in labels)


def attach_metadata(tflite: bytes, description: Description) -> bytes:
    """Add metadata and labels to a file; what the network computes does not change.

    Args:
        tflite: A `.tflite` file with one input and one output, without metadata.
        description: What to say about it.

    Returns:
        The file with metadata; its old content stands in it byte for byte.

    Raises:
        BundleError: The file is damaged, has metadata already, or is too large for the format.
    """
    if read_tflite(tflite).metadata is not None:
        raise BundleError("it has TFLite metadata already; give the file as the converter wrote it.")
    stream = io.BytesIO()
    stream.write(_with_buffer(tflite, METADATA_NAME.encode(), _describe(description)))
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        # A fixed time: the same model gives the same bytes.
        archive.writestr(zipfile.ZipInfo(LABELS_FILE), labels_text(description.labels))
    return stream.getvalue()


def read_metadata(tflite: bytes) -> Description | None:
    """Read back what `attach_metadata` wrote, or what another tool wrote about an image classifier.

    Returns:
        The description; None if the file has no metadata.

    Raises:
        BundleError: File or metadata are damaged, or the metadata is not of an image classifier.
    """
    file = read_tflite(tflite)
    if file.metadata is None:
        return None
    root = Table.root(file.metadata, METADATA_IDENTIFIER)
    graphs = root.tables(3)
    sides = (graphs[0].tables(2), graphs[0].tables(3)) if graphs else ([], [])
    if any(len(side) != 1 for side in sides):
        raise BundleError("its metadata does not describe exactly one input and one output.")
    (image,), (scores,) = sides
    mean, std = _normalization(image)
    stats = image.table(5)
    least, most = (stats.numbers(1, "f"), stats.numbers(0, "f")) if stats else ((), ())
    return Description(
        name=root.text(0),
        labels=_read_labels(scores, file.packed),
        channels=_channels(image),
        description=root.text(1),
        version=root.text(2),
        author=root.text(4),
        license=root.text(5),
        mean=mean,
        std=std,
        minimum=least[0] if least else 0.0,
        maximum=most[0] if most else 1.0,
        input_name=image.text(0),
        output_name=scores.text(0),
    )


def _channels(image: Table) -> int:
    content = image.table(3)
    properties = content.table(1) if content and content.number(0, "B") == _IMAGE else None
    if properties is None:
        raise BundleError("its metadata does not call the input an image.")
    return 1 if properties.number(0, "b") == _GRAYSCALE else 3


def _normalization(image: Table) -> tuple[tuple[float, ...], tuple[float, ...]]:
    for unit in image.tables(4):
        options = unit.table(1)
        if unit.number(0, "B") == _NORMALIZATION and options is not None:
            return options.numbers(0, "f"), options.numbers(1, "f")
    raise BundleError("its metadata gives no normalization.")


def _read_labels(scores: Table, packed: Mapping[str, bytes]) -> tuple[str, ...]:
    names = [file.text(0) for file in scores.tables(6) if file.number(2, "b") == _AXIS_LABELS]
    if len(names) != 1 or names[0] not in packed:
        raise BundleError(f"its metadata names the label files {names}, packed are {sorted(packed)}; expected one.")
    try:
        return tuple(packed[names[0]].decode("utf-8").splitlines())
    except UnicodeDecodeError as error:
        raise BundleError(f"the packed {names[0]} is not UTF-8.") from error


class _Writer:
    """Writes tables by field number with the `flatbuffers` package."""

    def __init__(self) -> None:
        import flatbuffers

        self.builder: Any = flatbuffers.Builder(1024)

    def text(self, text: str) -> int:
        return self.builder.CreateString(text)

    def floats(self, values: Sequence[float]) -> int:
        self.builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self.builder.PrependFloat32(value)
        return self.builder.EndVector()

    def tables(self, *offsets: int) -> int:
        self.builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self.builder.PrependUOffsetTRelative(offset)
        return self.builder.EndVector()

    def table(self, offsets: Mapping[int, int], numbers: Mapping[int, int] | None = None) -> int:
        """A table with offset fields, and with fields of one byte, by number."""
        self.builder.StartObject(max([*offsets, *(numbers or {}), 0]) + 1)
        for field, offset in offsets.items():
            self.builder.PrependUOffsetTRelativeSlot(field, offset, 0)
        for field, number in (numbers or {}).items():
            self.builder.PrependUint8Slot(field, number, 0)
        return self.builder.EndObject()


def _describe(description: Description) -> bytes:
    """The metadata FlatBuffer."""
    writer = _Writer()

    def stats(least: float, most: float) -> int:
        return writer.table({1: writer.floats([least]), 0: writer.floats([most])})

    color = writer.table({}, {0: _RGB if description.channels == 3 else _GRAYSCALE})
    normalization = writer.table({0: writer.floats(description.mean), 1: writer.floats(description.std)})
    image = writer.table(
        {
            0: writer.text(description.input_name),
            1: writer.text("Image to classify."),
            3: writer.table({1: color}, {0: _IMAGE}),
            4: writer.tables(writer.table({1: normalization}, {0: _NORMALIZATION})),
            5: stats(description.minimum, description.maximum),
        }
    )
    labels = writer.table(
        {0: writer.text(LABELS_FILE), 1: writer.text("Name of each class, in the order of the output.")},
        {2: _AXIS_LABELS},
    )
    scores = writer.table(
        {
            0: writer.text(description.output_name),
            1: writer.text("Probability of each class."),
            3: writer.table({1: writer.table({})}, {0: _FEATURE}),
            5: stats(0.0, 1.0),
            6: writer.tables(labels),
        }
    )
    graph = writer.table({2: writer.tables(image), 3: writer.tables(scores)})
    texts = {0: description.name, 1: description.description, 2: description.version, 4: description.author}
    fields = {field: writer.text(text) for field, text in (texts | {5: description.license}).items() if text}
    root = writer.table(fields | {3: writer.tables(graph), 7: writer.text(_MIN_PARSER)})
    writer.builder.Finish(root, METADATA_IDENTIFIER)
    return bytes(writer.builder.Output())


def _with_buffer(tflite: bytes, name: bytes, content: bytes) -> bytes:
    """The model with one more buffer, named in its metadata; the old bytes follow a new head unchanged.

    FlatBuffers only point forward, so the new outermost table, the two lists that grow and the new entries
    come first, at sizes that are known beforehand.
    """
    model = Table.root(tflite, IDENTIFIER)
    if model.fields > len(ModelField):
        raise BundleError(
            f"its outermost table has {model.fields} fields, {len(ModelField)} are known: a newer format."
        )
    buffers, entries = model.tables(ModelField.BUFFERS), model.tables(ModelField.METADATA)
    if any(buffer.number(1, "Q") > 1 for buffer in buffers):
        raise BundleError("its weights lie behind the model, as in files of more than 2 GB; expected a smaller one.")

    table_at = 8 + 4 + 2 * len(ModelField)
    lists_at = table_at + 4 + 4 * len(ModelField)
    entries_at = lists_at + 4 * (len(buffers) + 2)
    buffer_at = entries_at + 4 * (len(entries) + 2)
    entry_at = buffer_at + 16
    name_at = entry_at + 20
    content_at = _aligned(name_at + 4 + len(name) + 1 + 4)
    base = _aligned(content_at + len(content))
    if base + len(tflite) > _LARGEST:
        raise BundleError(f"it has {len(tflite):,} bytes; the format ends at 2 GiB.")

    moved = {ModelField.BUFFERS: lists_at, ModelField.METADATA: entries_at}
    head = bytearray(base)

    def put(position: int, code: str, *values: int) -> None:
        struct.pack_into(f"<{code}", head, position, *values)

    put(0, "I4s", table_at, IDENTIFIER)  # type: ignore[arg-type]
    put(8, "HH8H", 4 + 2 * len(ModelField), 4 + 4 * len(ModelField), *_directory(model, moved))
    put(table_at, "iI", table_at - 8, int(model.number(ModelField.VERSION, "I")))
    for field in ModelField:
        position, target = table_at + 4 + 4 * field, model.target(field) if field else None
        if field in moved:
            put(position, "I", moved[field] - position)
        elif target is not None:
            put(position, "I", base + target - position)
    for start, old, new in ((lists_at, buffers, buffer_at + 8), (entries_at, entries, entry_at + 8)):
        put(start, "I", len(old) + 1)
        targets = [*(base + table.position for table in old), new]
        for position, goal in zip(range(start + 4, start + 4 + 4 * len(targets), 4), targets, strict=True):
            put(position, "I", goal - position)
    put(buffer_at, "HHHHiI", 6, 8, 4, 0, 8, content_at - 4 - (buffer_at + 12))
    put(entry_at, "HHHHiII", 8, 12, 4, 8, 8, name_at - (entry_at + 12), len(buffers))
    put(name_at, "I", len(name))
    head[name_at + 4 : name_at + 4 + len(name)] = name
    put(content_at - 4, "I", len(content))
    head[content_at : content_at + len(content)] = content
    return bytes(head) + tflite


def _directory(model: Table, always: Mapping[ModelField, int]) -> list[int]:
    """Offset of each field within the new outermost table; 0 for those that are not set."""
    return [4 + 4 * field if field in always or model.where(field) is not None else 0 for field in ModelField]


def _aligned(position: int) -> int:
    return -(-position // _ALIGNMENT) * _ALIGNMENT
