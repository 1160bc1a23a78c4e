"""Reader of IDX files, the format of MNIST and its relatives (http://yann.lecun.com/exdb/mnist/).

A path comes in, plain or gzip, an array of unsigned bytes goes out.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib

import numpy as np

from transform.errors import DataError

_MAX_RATIO = 1032  # deflate cannot expand more, so a header that claims more is wrong


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file of unsigned bytes.

    Args:
        path: the file; a name ending in `.gz` is unpacked on the way.

    Returns:
        uint8 array of the shape that the header gives.

    Raises:
        DataError: if the file is no such file, is cut short or is longer than its header says.
    """
    packed = str(path).endswith(".gz")
    try:
        with gzip.open(path, "rb") if packed else open(path, "rb") as file:
            zeros, kind, dimensions = struct.unpack(">HBB", file.read(4))
            if zeros != 0 or kind != 8 or not 1 <= dimensions <= 4:
                raise DataError(f"{str(path)!r} is not an IDX file of unsigned bytes; fetch it again.")
            shape = struct.unpack(f">{dimensions}I", file.read(4 * dimensions))
            if math.prod(shape) > os.path.getsize(path) * (_MAX_RATIO if packed else 1):
                raise DataError(f"{str(path)!r} claims the shape {shape}, more than it can hold; fetch it again.")
            out = np.empty(shape, np.uint8)
            target = out.reshape(-1).data
            filled = 0
            while filled < len(target) and (got := file.readinto(target[filled:])):  # type: ignore[union-attr]
                filled += got
            if filled < len(target) or file.read(1):
                raise DataError(
                    f"{str(path)!r} does not hold the {len(target)} bytes that its header announces; fetch it again."
                )
            return out
    except (struct.error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{str(path)!r} is damaged or cut short ({error}); fetch it again.") from error
    except OSError as error:
        raise DataError(f"{str(path)!r} cannot be read: {error.strerror or error}.") from error
