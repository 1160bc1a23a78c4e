"""Base64 as TensorFlow Serving reads it: padding may be missing, blanks are skipped, other characters are errors."""

from __future__ import annotations

import binascii
import re

_PADDING = ord("=")
_BLANKS = b" \t\n\v\f\r"
_ALPHABET = re.compile(rb"[A-Za-z0-9+/]*")


def decode(text: bytes) -> bytes | None:
    """Decode base64 text.

    Args:
        text: Characters of the standard alphabet, with blanks between them or padding after them or not.

    Returns:
        The bytes; None if the text is no base64.
    """
    quick = decode_exact(text)
    if quick is not None:
        return quick
    text = text.translate(None, _BLANKS)
    digits = text.rstrip(b"=.")
    padding, missing = len(text) - len(digits), -len(digits) % 4
    if missing == 3 or padding not in (0, missing) or not _ALPHABET.fullmatch(digits):
        return None
    return binascii.a2b_base64(digits + b"=" * missing)


def decode_exact(text: bytes | memoryview) -> bytes | None:
    """Decode base64 text without blanks and with full padding; None for anything else, at the price of C code."""
    try:
        data = binascii.a2b_base64(text)
    except (binascii.Error, ValueError):
        return None
    fours, rest = divmod(len(text), 4)
    if rest:
        return None
    padding = 0 if not text or text[-1] != _PADDING else 1 if text[-2] != _PADDING else 2
    # The C code drops foreign characters in silence and stops at padding, so that the length gives them away.
    return data if len(data) == 3 * fours - padding else None
