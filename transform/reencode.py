"""Turns images that Pillow can read but TensorFlow cannot (WebP, TIFF, AVIF, …) into PNG.

Encoded bytes come in and go out. `transform.check` calls it to see whether it works, `transform.shards` to
write.
"""

from __future__ import annotations

import io
import warnings
from typing import Any


class UndecodableError(ValueError):
    """An image that cannot be used; the message is half a sentence for the user."""


_REMEDY = "convert it to PNG or JPEG"


def to_png(data: bytes, max_pixels: int) -> bytes:
    """Return the first frame of an image as 8-bit PNG: gray, gray and alpha, RGB or RGBA.

    Sixteen bits a channel are reduced to the upper eight. The pixels are not rotated by EXIF, as they are
    not in JPEG files either.

    Args:
        data: the file.
        max_pixels: larger images are not decoded.

    Raises:
        UndecodableError: if Pillow cannot read it either, or it is too large.
    """
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(io.BytesIO(data)) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise UndecodableError(f"{width} x {height} pixels, more than data.max_pixels ({max_pixels:,})")
                plain = _to_eight_bits(image)
            out = io.BytesIO()
            plain.save(out, "PNG", compress_level=1)
            return out.getvalue()
        except UndecodableError:
            raise
        except Image.DecompressionBombError:
            raise UndecodableError(f"far more pixels than data.max_pixels ({max_pixels:,})") from None
        except Image.UnidentifiedImageError:
            raise UndecodableError(_describe(data)) from None
        # Pillow's readers raise whatever the parser of a broken file runs into.
        except Exception as error:
            raise UndecodableError(f"damaged or cut short ({error})") from None


def _to_eight_bits(image: Any) -> Any:
    """Convert any mode of Pillow to L, LA, RGB or RGBA."""
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        image.load()
        return image.copy()
    if image.mode.startswith("I;16"):
        import numpy as np
        from PIL import Image

        return Image.fromarray((np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise UndecodableError(f"32 bits a pixel, whose range is not known; {_REMEDY}")
    if image.mode == "1":
        return image.convert("L")
    has_alpha = "transparency" in image.info or "A" in image.getbands() or "a" in image.getbands()
    return image.convert("RGBA" if has_alpha else "RGB")


def _describe(data: bytes) -> str:
    if data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftyphevc"):
        return f"a HEIC photo, which cannot be read here; {_REMEDY}"
    return f"not an image (it starts with {data[:8]!r})"
