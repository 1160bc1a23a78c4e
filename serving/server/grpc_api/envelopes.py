"""What surrounds the numbers of a Predict request, remembered so that it is parsed once.

Comes in: bytes of a `PredictRequest` and, the first time, what protobuf made of them. Goes out: `Parsed`, the same that
protobuf would give. Called by the `predict` module beside it, in gRPC's thread.

A client sends the same model, input and shape again and again; only the numbers differ, and they are one run of bytes
of a known place. A request of a known length whose other bytes are all known ones is not parsed: its numbers are cut
out. The place is proved, not guessed: protobuf must find other numbers where others are put, and nothing else changed.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from serving.server.model_spec import ModelSpec
from serving.server.status import StatusError

_LEAST_CONTENT = 256  # bytes; protobuf is as fast for less
_MOST_CONTENT = 1 << 24  # bytes; above, learning would need too much memory
_MOST_ENVELOPE = 2048  # bytes that are kept of a request
_KEPT = 64
_KEPT_OF_A_LENGTH = 4


class Parsed(NamedTuple):
    """A Predict request.

    Attributes:
        spec: Which model, version and signature.
        inputs: Arrays by name.
        outputs: Outputs to compute; None for all.
    """

    spec: ModelSpec
    inputs: Mapping[str, np.ndarray]
    outputs: tuple[str, ...] | None


@dataclass(frozen=True)
class _Envelope:
    """Bytes before and behind the numbers, and what they mean."""

    head: bytes
    tail: bytes
    spec: ModelSpec
    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    outputs: tuple[str, ...] | None

    def open(self, message: bytes) -> Parsed:
        content = message[len(self.head) : len(message) - len(self.tail)]
        return Parsed(self.spec, {self.name: np.frombuffer(content, self.dtype).reshape(self.shape)}, self.outputs)


class Envelopes:
    """Remembers the envelopes of requests; for one thread.

    Args:
        parse: Parses a request with protobuf; raises StatusError if it is none.
    """

    def __init__(self, parse: Callable[[bytes], Parsed]) -> None:
        """Know none yet."""
        self._parse = parse
        self._known: OrderedDict[int, list[_Envelope]] = OrderedDict()

    def open(self, message: bytes) -> Parsed | None:
        """Read a request with a known envelope; None if it has none."""
        for envelope in self._known.get(len(message), ()):
            if message.startswith(envelope.head) and message.endswith(envelope.tail):
                return envelope.open(message)
        return None

    def learn(self, message: bytes, parsed: Parsed) -> None:
        """Remember the envelope of a request that was parsed, if it has one.

        Args:
            message: The request.
            parsed: What protobuf made of it.
        """
        envelope = self._envelope(message, parsed)
        if envelope is None:
            return
        known = self._known.setdefault(len(message), [])
        known.insert(0, envelope)
        del known[_KEPT_OF_A_LENGTH:]
        self._known.move_to_end(len(message))
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def _envelope(self, message: bytes, parsed: Parsed) -> _Envelope | None:
        if len(parsed.inputs) != 1:
            return None
        ((name, array),) = parsed.inputs.items()
        if array.dtype.kind not in "fiu" or not _LEAST_CONTENT <= array.nbytes <= _MOST_CONTENT:
            return None
        content = array.tobytes()
        start = message.find(content)
        end = start + len(content)
        if start < 0 or len(message) - len(content) > _MOST_ENVELOPE:
            return None
        head, tail = message[:start], message[end:]
        envelope = _Envelope(head, tail, parsed.spec, name, array.dtype, array.shape, parsed.outputs)
        # If these bytes were not the whole content of the tensor, other ones in their place would change something
        # else, or would not come out all the same.
        twin = head + (~np.frombuffer(content, np.uint8)).tobytes() + tail
        try:
            return envelope if _same(self._parse(twin), envelope.open(twin)) else None
        except StatusError:
            return None


def _same(one: Parsed, other: Parsed) -> bool:
    if (one.spec, one.outputs, one.inputs.keys()) != (other.spec, other.outputs, other.inputs.keys()):
        return False
    pairs = [(array, other.inputs[name]) for name, array in one.inputs.items()]
    return all(
        (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes()) for left, right in pairs
    )
