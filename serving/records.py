"""TFRecord files, read record by record.

Comes in: paths of TFRecord files, gzipped or not. Goes out: the bytes of each record, checksums verified.
Called by the infra probe and for warm-up requests.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from serving.errors import ServingError

_GZIP_MAGIC = b"\x1f\x8b"


def read_records(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """Yield the records of one TFRecord file; gzip is recognized by content, not by name.

    Raises:
        ServingError: The file cannot be read, or a record is truncated or damaged.
    """
    from tensorflow.python.framework import errors_impl
    from tensorflow.python.lib.io import _pywrap_record_io

    file = Path(path)
    try:
        with file.open("rb") as stream:
            kind = "GZIP" if stream.read(2) == _GZIP_MAGIC else ""
        # What tf_record_iterator returns; that one warns of its deprecation in every log.
        yield from _pywrap_record_io.RecordIterator(str(file), kind)
    except OSError as error:
        raise ServingError(f"{file} cannot be read: {error.strerror}. Expected a TFRecord file.") from error
    except errors_impl.OpError as error:
        raise ServingError(
            f"{file} is not a complete TFRecord file: {error.message}. Write or copy it again."
        ) from error


def first_records(paths: Iterable[str | os.PathLike[str]], count: int) -> list[bytes]:
    """The first `count` records over several files, in the order of the paths; fewer if there are no more."""
    return list(islice((record for path in paths for record in read_records(path)), count))
