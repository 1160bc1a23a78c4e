"""Reading `.tflite` files from anywhere: what they say, and that damage never surprises."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.edge.metadata import Description, attach_metadata, read_metadata
from serving.edge.tflite_file import TensorInfo, read_tflite
from serving.errors import BundleError
from tests.serving.edge.tiny import LABELS

unhurried = settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)


def test_what_an_int8_file_says(tflite_files: dict[str, Path]) -> None:
    file = read_tflite(tflite_files["int8"].read_bytes())
    signature = file.signatures["predict"]
    image = signature.inputs["image"]
    assert (image.dtype, image.shape, image.zero_point) == ("uint8", (-1, 8, 8, 3), 0)
    assert image.scale == pytest.approx(1 / 255, rel=1e-6)
    assert signature.outputs["probabilities"] == TensorInfo("probabilities", "uint8", (-1, 3), 1 / 256, 0)
    assert (file.metadata, dict(file.packed), file.custom_operations) == (None, {}, ())


def test_what_a_float_file_says(tflite_files: dict[str, Path]) -> None:
    signature = read_tflite(tflite_files["float16"].read_bytes()).signatures["predict"]
    assert signature.inputs["image"] == TensorInfo("image", "float32", (-1, 8, 8, 3))
    assert signature.outputs["probabilities"] == TensorInfo("probabilities", "float32", (-1, 3))


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"\x10\0\0\0TFL3", b"PK\x03\x04" * 9, b"\xff" * 4 + b"TFL3" + b"\xff" * 9]
)
def test_other_content_is_refused(content: bytes) -> None:
    with pytest.raises(BundleError):
        read_tflite(content)


@unhurried
@given(share=st.floats(0, 1))
def test_truncated_files_are_refused(tflite_files: dict[str, Path], share: float) -> None:
    data = tflite_files["int8"].read_bytes()
    with pytest.raises(BundleError):
        read_tflite(data[: int(share * (len(data) - 1))])


@unhurried
@given(data=st.data())
def test_damage_is_refused_or_read_but_never_an_accident(tflite_files: dict[str, Path], data: st.DataObject) -> None:
    whole = bytearray(attach_metadata(tflite_files["int8"].read_bytes(), Description("pets", LABELS)))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(whole) - 1))
        whole[position] = data.draw(st.integers(0, 255))
    try:
        read_tflite(bytes(whole))
        read_metadata(bytes(whole))
    except BundleError:
        pass


def test_an_archive_that_would_fill_the_memory_is_not_unpacked(tflite_files: dict[str, Path]) -> None:
    stream = io.BytesIO()
    stream.write(tflite_files["float16"].read_bytes())
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.txt", bytes(20 * 1024 * 1024))
    with pytest.raises(BundleError, match="too much to read"):
        read_tflite(stream.getvalue())
