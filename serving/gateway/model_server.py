"""Pictures -> what one exact version of the model says about them.

The gateway always asks for a version by number, which it looks up by label just before: an answer over REST does not
say who gave it, and the number in the page, the audit log and the statistics must be true also while a new version
is being taken up. Called by `predicting`, on the event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from serving.client.errors import ClientError, InvalidRequest, NotFound, ServerFailure, Unavailable
from serving.gateway.errors import GatewayError
from serving.gateway.settings import Upstream

if TYPE_CHECKING:
    import numpy as np

    from serving.client import AsyncClient

EXPLAIN = "explain"
CLASSIFY = "classify"
_IMAGE_FEATURE = "image/encoded"
_FACTS_KEPT = 8
# Facts that could not be asked for are asked for again, but not by every request.
_FACTS_RETRY_SECONDS = 5.0
_NONSENSE = (LookupError, TypeError, ValueError)


@dataclass(frozen=True)
class Facts:
    """What is known of one version.

    Attributes:
        signatures: names.
        labels: class names in the order of the class ids; empty if nobody told them.
    """

    signatures: frozenset[str] = frozenset()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Opinion:
    """What the model says about one picture.

    Attributes:
        class_id: the most probable class.
        label: its name.
        probabilities: float32 [K].
        heatmap: float32 [h, w] in [0, 1], if it was asked for and the model has it.
    """

    class_id: int
    label: str
    probabilities: np.ndarray
    heatmap: np.ndarray | None = None


@dataclass(frozen=True)
class Reply:
    """What came back for a request of one or more pictures.

    Attributes:
        version: which version answered; None if none was found.
        facts: of that version.
        opinions: for each picture what the model says, or why it says nothing.
        milliseconds: that the model server took.
    """

    version: int | None
    facts: Facts
    opinions: list[Opinion | ClientError]
    milliseconds: float


@dataclass
class _Known:
    version: int
    until: float


@dataclass
class _Caches:
    versions: dict[str | None, _Known] = field(default_factory=dict)
    facts: dict[int, tuple[Facts, float]] = field(default_factory=dict)


class ModelServer:
    """Asks the model behind the gateway.

    Args:
        settings: the section `upstream`.
        client: of `serving.client`; closed by `close`.

    Raises:
        GatewayError: the file of labels cannot be used.
    """

    def __init__(self, settings: Upstream, client: AsyncClient) -> None:
        """Read the labels; the server is not asked yet."""
        self._settings = settings
        self._client = client
        self._labels = read_labels(settings)
        self._caches = _Caches()
        self._facts_lock = asyncio.Lock()

    async def ask(self, pictures: Sequence[bytes], label: str | None, *, explain: bool = False) -> Reply:
        """Classify pictures by the version that a label points to.

        Args:
            pictures: encoded, checked.
            label: version label, or None for the newest version.
            explain: ask for heatmaps too, if the version has them.

        Returns:
            The reply. Errors stand in the place of opinions; nothing is raised for what the server did.
        """
        started = time.monotonic()
        version: int | None = None
        facts = Facts()
        opinions: list[Opinion | ClientError] = []
        for is_last in (False, True):
            try:
                version = await self.version(label, fresh=is_last)
                facts = await self.facts(version)
                signature = EXPLAIN if explain and EXPLAIN in facts.signatures else None
                opinions = await self._ask(pictures, version, facts, signature)
            except ClientError as error:
                opinions = [error] * len(pictures)
            # The version may have been unloaded since it was looked up; then the label points elsewhere by now.
            if not all(isinstance(one, NotFound) for one in opinions):
                break
        return Reply(version, facts, opinions, (time.monotonic() - started) * 1000)

    async def version(self, label: str | None, *, fresh: bool = False) -> int:
        """Return the number of the version that a label points to; of the newest available one without a label.

        Raises:
            ClientError: the server does not answer, or has no such version at the moment.
        """
        known = self._caches.versions.get(label)
        if known and not fresh and time.monotonic() < known.until:
            return known.version
        try:
            found = await self._client.resolve(label)
        except InvalidRequest as error:
            raise Unavailable(f"no version has the label {label!r} at the moment ({error.message})") from error
        self._caches.versions[label] = _Known(found, time.monotonic() + self._settings.versions_seconds)
        return found

    async def facts(self, version: int) -> Facts:
        """Return signatures and class names of a version, asked for once; empty ones if the server does not tell."""
        cached = self._caches.facts.get(version)
        if cached and time.monotonic() < cached[1]:
            return cached[0]
        async with self._facts_lock:
            cached = self._caches.facts.get(version)
            if cached and time.monotonic() < cached[1]:
                return cached[0]
            facts, is_complete = await self._ask_facts(version)
            until = float("inf") if is_complete else time.monotonic() + _FACTS_RETRY_SECONDS
            self._caches.facts[version] = (facts, until)
            while len(self._caches.facts) > _FACTS_KEPT:
                del self._caches.facts[next(iter(self._caches.facts))]
            return facts

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def _ask(
        self, pictures: Sequence[bytes], version: int, facts: Facts, signature: str | None
    ) -> list[Opinion | ClientError]:
        if signature is None:
            answers = await self._client.predict_images(pictures, version=version, on_error="return")
            return [one if isinstance(one, ClientError) else _opinion_or_failure(one, facts) for one in answers]
        found = await self._client.predict({"image_bytes": list(pictures)}, version=version, signature=signature)
        try:
            return list(_explained(found, facts, len(pictures)))
        except _NONSENSE as error:
            raise _failure(error) from error

    async def _ask_facts(self, version: int) -> tuple[Facts, bool]:
        try:
            signatures = frozenset(await self._client.metadata(version=version))
        except ClientError:
            return Facts(labels=self._labels), False
        if self._labels or CLASSIFY not in signatures:
            return Facts(signatures, self._labels), True
        try:
            found = await self._client.predict(
                {"inputs": [_probe()]}, version=version, signature=CLASSIFY, outputs=["classes"]
            )
            return Facts(signatures, tuple(_text(name) for name in found["classes"][0])), True
        except (ClientError, LookupError, TypeError):
            return Facts(signatures), False


def read_labels(settings: Upstream) -> tuple[str, ...]:
    """Return the class names of the file that the settings name, if any.

    Raises:
        GatewayError: the file cannot be read or holds no labels.
    """
    path = settings.labels_file
    if path is None:
        return ()
    try:
        labels = tuple(path.read_text("utf-8").splitlines())
    except (OSError, UnicodeDecodeError) as error:
        raise GatewayError(f"upstream.labels_file {path} cannot be read: {error}") from None
    if len(labels) < 2 or not all(labels) or len(set(labels)) < len(labels):
        raise GatewayError(
            f"upstream.labels_file {path} holds {len(labels)} lines; expected different names, one a line"
        )
    return labels


def names(facts: Facts, opinion: Opinion) -> list[str]:
    """Return a name for every class; where the model did not tell them, only the chosen one has its own."""
    if len(facts.labels) == len(opinion.probabilities):
        return list(facts.labels)
    found = [f"class {index}" for index in range(len(opinion.probabilities))]
    found[opinion.class_id] = opinion.label
    return found


def _opinion_or_failure(answer: Any, facts: Facts) -> Opinion | ClientError:
    try:
        return _opinion(answer, facts)
    except _NONSENSE as error:
        return _failure(error)


def _failure(error: Exception) -> ServerFailure:
    return ServerFailure(f"the answer is not that of an image classifier: {error}")


def _opinion(answer: Any, facts: Facts, heatmap: Any = None) -> Opinion:
    import numpy as np

    probabilities = np.asarray(answer["probabilities"], np.float32)
    class_id = int(answer["class_id"])
    if probabilities.ndim != 1 or not 0 <= class_id < len(probabilities):
        raise ValueError(f"class {class_id} of probabilities of the shape {probabilities.shape}")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities that are no finite numbers")
    label = facts.labels[class_id] if len(facts.labels) == len(probabilities) else _text(answer["label"])
    return Opinion(class_id, label, probabilities, heatmap)


def _explained(found: Any, facts: Facts, count: int) -> list[Opinion]:
    import numpy as np

    heatmaps = np.asarray(found["heatmap"], np.float32)
    if heatmaps.ndim != 3 or not len(heatmaps) == len(found["class_id"]) == len(found["probabilities"]) == count:
        raise ValueError(f"heatmaps of the shape {heatmaps.shape} for {count} pictures")
    heatmaps = np.clip(np.nan_to_num(heatmaps), 0, 1)
    fields = ("probabilities", "class_id", "label")
    return [_opinion({key: found[key][row] for key in fields}, facts, heatmaps[row]) for row in range(count)]


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _probe() -> bytes:
    """Return a serialized `tf.Example` with a small gray picture; the answer's class names are what matters."""
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("L", (8, 8), 128).save(out, "PNG")
    # Example{1: Features{1: {1: key, 2: Feature{1: BytesList{1: value}}}}}, each field of type 2 (length-delimited).
    feature = _field(1, _field(1, out.getvalue()))
    return _field(1, _field(1, _field(1, _IMAGE_FEATURE.encode()) + _field(2, feature)))


def _field(number: int, content: bytes) -> bytes:
    length, size = bytearray(), len(content)
    while size > 127:
        length.append(size & 127 | 128)
        size >>= 7
    length.append(size)
    return bytes([number << 3 | 2]) + bytes(length) + content
