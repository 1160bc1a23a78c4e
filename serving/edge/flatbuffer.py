"""A reader of FlatBuffers that trusts no offset.

Comes in: bytes from anywhere. Goes out: fields by their number in the schema. Called by
`serving.edge.tflite_file` and `serving.edge.metadata`.

The `flatbuffers` package checks nothing: a damaged offset makes it read elsewhere or raise an error of the
interpreter. Here every access is checked against the end of the data, and the standard library is enough.
Format: FlatBuffers internals (https://flatbuffers.dev/internals/).
"""

from __future__ import annotations

import struct

from serving.errors import BundleError

_MAX_TEXT = 1 << 20


class Table:
    """One table of a FlatBuffer; fields are read by their number in the schema.

    Args:
        data: The whole buffer.
        position: Where the table starts, in bytes.
    """

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self.position = position
        self._vtable = position - read_number(data, "i", position)
        size = read_number(data, "H", self._vtable)
        if size < 4 or size % 2:
            raise BundleError(f"a table at byte {position} is damaged: its directory has {size} bytes.")
        self.fields = (size - 4) // 2

    @classmethod
    def root(cls, data: bytes, identifier: bytes) -> Table:
        """The outermost table of a buffer with this 4-byte identifier.

        Raises:
            BundleError: The buffer is too short or has another identifier.
        """
        if len(data) < 8 or data[4:8] != identifier:
            raise BundleError(f"it starts with {data[:8]!r}; expected the identifier {identifier.decode()} at byte 4.")
        return cls(data, read_number(data, "I", 0))

    def where(self, field: int) -> int | None:
        """Position of a field's value; None if it is not set."""
        if field >= self.fields:
            return None
        offset = read_number(self._data, "H", self._vtable + 4 + 2 * field)
        return self.position + offset if offset else None

    def number(self, field: int, code: str, default: float = 0) -> int | float:
        """A scalar of the `struct` code given; `default` if it is not set."""
        position = self.where(field)
        return default if position is None else read_number(self._data, code, position)

    def target(self, field: int) -> int | None:
        """Position of what an offset field points to; None if it is not set."""
        position = self.where(field)
        return None if position is None else position + int(read_number(self._data, "I", position))

    def table(self, field: int) -> Table | None:
        """The table that a field points to; None if it is not set."""
        position = self.target(field)
        return None if position is None else Table(self._data, position)

    def tables(self, field: int) -> list[Table]:
        """The tables of a vector; empty if it is not set."""
        start, count = self._vector(field, 4)
        return [
            Table(self._data, at + int(read_number(self._data, "I", at))) for at in range(start, start + 4 * count, 4)
        ]

    def numbers(self, field: int, code: str) -> tuple[int | float, ...]:
        """The scalars of a vector; empty if it is not set."""
        start, count = self._vector(field, struct.calcsize(f"<{code}"))
        return struct.unpack_from(f"<{count}{code}", self._data, start)

    def blob(self, field: int) -> bytes:
        """The bytes of a vector; empty if it is not set."""
        start, count = self._vector(field, 1)
        return self._data[start : start + count]

    def span(self, field: int) -> tuple[int, int]:
        """Position and length in bytes of a byte vector; (0, 0) if it is not set."""
        return self._vector(field, 1)

    def text(self, field: int) -> str:
        """A string; empty if it is not set."""
        start, count = self._vector(field, 1)
        if count > _MAX_TEXT:
            raise BundleError(f"a text of {count:,} bytes is too long.")
        try:
            return self._data[start : start + count].decode("utf-8")
        except UnicodeDecodeError as error:
            raise BundleError(f"a text at byte {start} is not UTF-8.") from error

    def _vector(self, field: int, width: int) -> tuple[int, int]:
        position = self.target(field)
        if position is None:
            return 0, 0
        count = int(read_number(self._data, "I", position))
        if position + 4 + count * width > len(self._data):
            raise BundleError(
                f"it ends at byte {len(self._data):,}, but a list of {count:,} entries at byte {position:,} goes on; "
                "the file is truncated or damaged."
            )
        return position + 4, count


def read_number(data: bytes, code: str, position: int) -> int:
    """A little-endian scalar at a position.

    Raises:
        BundleError: The position lies outside of the data.
    """
    if position < 0 or position + struct.calcsize(f"<{code}") > len(data):
        raise BundleError(
            f"it has {len(data):,} bytes, but refers to byte {position:,}; the file is truncated or damaged."
        )
    return struct.unpack_from(f"<{code}", data, position)[0]
