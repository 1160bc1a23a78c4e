"""Bytes from anywhere -> a picture that the model server can decode, or a refusal that says why.

Limits are checked on the header, before pixels are decoded; afterwards the file is decoded once, so that what is
damaged is refused here with a clear text. Nothing is believed that a name or a content type says. Called for every
upload, in a thread.
"""

from __future__ import annotations

import hashlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from serving.gateway.errors import Problem
from serving.gateway.settings import Images

if TYPE_CHECKING:
    from PIL import Image as PillowImage

# TensorFlow reads all kinds of these. Of BMP it reads a few only, and of a GIF it would unpack every frame.
_PASSED_ON = ("PNG", "JPEG")
# The header of a picture can claim anything; a decoded line of this width is still affordable.
_LONGEST_SIDE = 65_500
_ORIENTATION = 0x0112

_STARTS = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")
_KNOWN_OTHERS: tuple[tuple[Callable[[bytes], bool], str], ...] = (
    (lambda head: b"<svg" in head.lower(), "an SVG drawing"),
    (lambda head: head.startswith(b"%PDF"), "a PDF document"),
    (lambda head: head.startswith(b"PK\x03\x04"), "a ZIP archive"),
    (lambda head: head[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"), "a HEIC picture"),
    (lambda head: head[4:12] == b"ftypavif", "an AVIF picture"),
    (lambda head: head[4:8] == b"ftyp", "a film"),
    (lambda head: head[:4] in (b"II*\0", b"MM\0*"), "a TIFF picture"),
    (lambda head: head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")), "a web page"),
)


@dataclass(frozen=True)
class Picture:
    """A picture that passed.

    Attributes:
        content: what the model server gets: the file as sent, or the same pixels as PNG.
        digest: SHA-256 of `content`, hexadecimal.
        format: Pillow's name of what was sent, such as `JPEG`.
        width: pixels, as the sender sees it.
        height: pixels.
    """

    content: bytes
    digest: str
    format: str
    width: int
    height: int


def inspect(data: bytes, limits: Images) -> Picture:
    """Check one upload.

    Args:
        data: the file.
        limits: what is accepted.

    Returns:
        The picture.

    Raises:
        Problem: 413 too many bytes; 415 no picture, or one of a format that is not accepted; 422 empty, damaged, or
            too many pixels.
    """
    if not data:
        raise Problem(422, "empty", "the file is empty; send a picture")
    if len(data) > limits.max_bytes:
        raise too_large(limits.max_bytes)
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            # Pillow warns of what the limit below decides; nobody reads warnings of a server.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "GIF", "BMP", "WEBP")) as image:
                _check_header(image, limits)
                return _decoded(image, data, limits)
    except Image.DecompressionBombError:
        raise _too_many_pixels(limits) from None
    except UnidentifiedImageError:
        raise _no_picture(data, limits) from None
    except Problem:
        raise
    except Exception as error:  # decoders meet hostile files with many kinds of errors, each of them the file's fault
        raise _damaged(error) from None


def too_large(limit: int) -> Problem:
    """Return the refusal of a file above a limit of bytes."""
    return Problem(
        413, "too_large", f"the picture has more than {limit:,} bytes (images.max_bytes); send a smaller one"
    )


def without_metadata(picture: Picture) -> tuple[bytes, str]:
    """Return a copy to keep: the pixels only, without position, names, comments or anything behind the picture.

    Args:
        picture: one that passed.

    Returns:
        The file and its suffix. JPEG keeps its compressed pixels, so that nothing is lost; the others become PNG.
    """
    if picture.content.startswith(b"\xff\xd8"):
        return _bare_jpeg(picture.content), ".jpg"
    from PIL import Image

    with Image.open(io.BytesIO(picture.content), formats=("PNG",)) as image:
        image.load()
        return _as_png(image), ".png"


def _check_header(image: PillowImage.Image, limits: Images) -> None:
    if image.format not in limits.formats:
        raise Problem(
            415, "unsupported", f"{image.format} pictures are not accepted; send one of {', '.join(limits.formats)}"
        )
    width, height = image.size
    if width * height > limits.max_pixels or max(width, height) > _LONGEST_SIDE:
        raise _too_many_pixels(limits, f"{width} x {height}")


def _decoded(image: PillowImage.Image, data: bytes, limits: Images) -> Picture:
    """Decode once; the original bytes go on unless the model server could not read them as meant."""
    orientation = image.getexif().get(_ORIENTATION, 1) if limits.upright else 1
    is_turned = orientation in range(2, 9)
    # Modes such as CMYK or floats are read differently by every decoder, so they are settled here.
    is_common = image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")
    keep = image.format in _PASSED_ON and is_common and not is_turned
    image_format = str(image.format)
    if keep and image_format == "JPEG":
        # An eighth of the size is decoded from the same bytes, for a fraction of the time.
        image.draft(image.mode, (max(1, image.width // 8), max(1, image.height // 8)))
        width, height = _declared_size(data, limits)
    else:
        width, height = image.size
    image.load()
    if keep:
        return Picture(data, _digest(data), image_format, width, height)
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(image) if is_turned else image
    content = _as_png(upright)
    return Picture(content, _digest(content), image_format, upright.width, upright.height)


def _declared_size(data: bytes, limits: Images) -> tuple[int, int]:
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("JPEG",)) as image:
        return image.size


def _as_png(image: PillowImage.Image) -> bytes:
    plain = image if image.mode in ("1", "L", "LA", "RGB", "RGBA", "I;16") else _converted(image)
    plain.info = {}
    out = io.BytesIO()
    plain.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _converted(image: PillowImage.Image) -> PillowImage.Image:
    if image.mode == "I":
        return image.convert("I;16")
    has_alpha = image.mode in ("PA", "La", "RGBa") or "transparency" in image.info
    return image.convert("RGBA" if has_alpha else "RGB")


def _bare_jpeg(data: bytes) -> bytes:
    """Drop the segments that hold no pixels, and what follows the end of the picture.

    Kept of the application segments is Adobe's (APP14), which says how colors are stored. ITU T.81, annex B.
    """
    out = bytearray(b"\xff\xd8")
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        end = position + 2 + length
        is_metadata = (0xE0 <= marker <= 0xEF and marker != 0xEE) or marker == 0xFE
        if not is_metadata:
            out += data[position:end]
        position = end
        if marker == 0xDA:
            position = _end_of_scan(data, end)
            out += data[end:position]
            if data[position : position + 2] == b"\xff\xd9":
                break
    return bytes(out + b"\xff\xd9")


def _end_of_scan(data: bytes, start: int) -> int:
    """Return where the entropy-coded bytes end: at the next marker that is no restart or stuffed zero."""
    position = start
    while True:
        position = data.find(b"\xff", position)
        if position < 0 or position + 1 >= len(data):
            return len(data)
        following = data[position + 1]
        if following == 0 or 0xD0 <= following <= 0xD7:
            position += 2
        elif following == 0xFF:
            position += 1
        else:
            return position


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _too_many_pixels(limits: Images, size: str = "") -> Problem:
    received = f"{size} pixels" if size else "far too many pixels"
    return Problem(
        422,
        "too_many_pixels",
        f"the picture has {received}; at most {limits.max_pixels:,} in all are accepted (images.max_pixels), and at "
        f"most {_LONGEST_SIDE:,} on a side. Send a smaller version",
    )


def _no_picture(data: bytes, limits: Images) -> Problem:
    head = data[:1024]
    if head.startswith(_STARTS) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return _damaged("its header makes no sense")
    what = next((name for matches, name in _KNOWN_OTHERS if matches(head)), "no picture that can be read")
    return Problem(415, "no_picture", f"the file is {what}; send one of {', '.join(limits.formats)}")


def _damaged(error: object) -> Problem:
    reason = " ".join(str(error).split())[:120] or type(error).__name__
    return Problem(422, "damaged", f"the picture is cut off or damaged ({reason}); send it again from the original")
