"""The pictures of a report: examples of each class, what the audit found, and the worst mistakes with Grad-CAM.

Comes in: what was gathered. Goes out: small pictures as data URLs. Called by `pipeline.report.page`; this is the one
part of a report that needs TensorFlow, to read example files and to ask the model where it looked.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.report.gathering import Findings, Mistake
from transform import features
from transform.progress import report

_SAMPLES_PER_CLASS = 4
_MOST_CLASSES = 24
_MOST_GROUPS = 8
_MOST_IN_GROUP = 4
_LOOKED_AT = 20_000
"""Examples of a split that are looked at for samples; they lie in random order, so every usual class is among them."""

_SEARCHED = 200_000
"""Examples that are searched for those with findings and mistakes; what was left out would be searched in vain."""

_SIDE = 112
_SEARCH_ORDER = ("test", "eval", "train")


@dataclass(frozen=True)
class Shown:
    """A picture with its caption; `url` is empty where the picture isn't among the examples."""

    caption: str
    url: str = ""
    heatmap: str = ""
    """Grad-CAM as a transparent picture to lay over it."""


@dataclass(frozen=True)
class Member:
    """One of several examples with the same content."""

    name: str
    label: str
    split: str
    """Empty where it was left out."""


@dataclass(frozen=True)
class Group:
    """Examples with the same content, which is shown once."""

    url: str
    members: list[Member]
    more: int
    """Members that are not listed here."""


@dataclass
class Gallery:
    """All pictures of a report."""

    samples: dict[str, list[Shown]] = field(default_factory=dict)
    """By class."""
    duplicates: list[Group] = field(default_factory=list)
    conflicts: list[Group] = field(default_factory=list)
    mistakes: list[tuple[Mistake, Shown]] = field(default_factory=list)


@dataclass(frozen=True)
class _Example:
    content: bytes
    digest: str
    origin: str
    label: str
    split: str


def collect(findings: Findings) -> Gallery:
    """Find all pictures that a report shows.

    Args:
        findings: what was gathered; without examples the gallery is empty.
    """
    gallery = Gallery()
    if findings.examples is None or findings.ingestion is None:
        return gallery
    groups = _groups(findings.ingestion)
    names = {member["name"] for found in groups.values() for group in found for member in group[:_MOST_IN_GROUP]}
    mistakes = findings.predictions.mistakes if findings.predictions else []
    gallery.samples = _samples(findings.examples, findings.ingestion["labels"][:_MOST_CLASSES])
    by_digest, by_origin = _search(findings.examples, {mistake.digest for mistake in mistakes}, names)
    gallery.duplicates, gallery.conflicts = ([_group(g, by_origin) for g in found] for found in groups.values())
    gallery.mistakes = _explained(findings.model, mistakes, by_digest)
    return gallery


def _groups(ingestion: dict[str, Any]) -> dict[str, list[list[dict[str, str]]]]:
    """Return the first groups of copies and of contents under two labels, with name and label of each member."""
    copies = [[{"name": name, "label": ""} for name in group] for group in ingestion["duplicates"]["groups"]]
    conflicts = ingestion["conflicts"]["groups"]
    told = {frozenset(member["name"] for member in group) for group in conflicts}
    copies = [group for group in copies if frozenset(member["name"] for member in group) not in told]
    return {"duplicates": copies[:_MOST_GROUPS], "conflicts": conflicts[:_MOST_GROUPS]}


def _group(group: list[dict[str, str]], by_origin: dict[str, _Example]) -> Group:
    members, url = [], ""
    for entry in group[:_MOST_IN_GROUP]:
        example = by_origin.get(entry["name"])
        label = entry["label"] or (example.label if example else "")
        members.append(Member(entry["name"], label, example.split if example else ""))
        url = url or (picture(example.content) if example else "")
    return Group(url, members, len(group) - len(members))


def _samples(folder: Path, labels: list[str]) -> dict[str, list[Shown]]:
    """Return the first pictures of each class in the train split."""
    from transform.sources.refs import printable

    found: dict[str, list[Shown]] = {label: [] for label in labels}
    missing = _SAMPLES_PER_CLASS * len(labels)
    for number, example in enumerate(_examples(folder, "train")):
        if not missing or number >= _LOOKED_AT:
            break
        kept = found.get(example.label)
        if kept is not None and len(kept) < _SAMPLES_PER_CLASS:
            kept.append(Shown(f"{printable(example.label)}: {printable(example.origin)}", picture(example.content)))
            missing -= 1
    return found


def _search(folder: Path, digests: set[str], origins: set[str]) -> tuple[dict[str, _Example], dict[str, _Example]]:
    """Return the examples of some digests and of some origins."""
    from transform.sources.refs import printable

    by_digest: dict[str, _Example] = {}
    by_origin: dict[str, _Example] = {}
    seen = 0
    for split in _SEARCH_ORDER:
        for example in _examples(folder, split):
            if seen >= _SEARCHED or (len(by_digest) == len(digests) and len(by_origin) == len(origins)):
                return by_digest, by_origin
            if example.digest in digests:
                by_digest[example.digest] = example
            if printable(example.origin) in origins:
                by_origin[printable(example.origin)] = example
            seen += 1
            if seen % 5000 == 0:
                report(seen, None, "examples searched")
    return by_digest, by_origin


def _examples(folder: Path, split: str) -> Iterator[_Example]:
    import tensorflow as tf

    columns = (features.IMAGE, features.DIGEST, features.ORIGIN, features.LABEL_NAME)
    spec = {name: tf.io.FixedLenFeature([], tf.string) for name in columns}
    files = sorted(map(str, (folder / f"Split-{split}").glob("*.gz")))
    dataset = tf.data.TFRecordDataset(files, compression_type="GZIP", buffer_size=1 << 20).batch(128)
    for batch in _readable(dataset):
        parsed = {name: value.numpy() for name, value in tf.io.parse_example(batch, spec).items()}
        for content, *words in zip(*(parsed[name] for name in columns), strict=True):
            digest, origin, label = (word.decode("utf-8", "surrogateescape") for word in words)
            yield _Example(content, digest, origin, label, split)


def _readable(dataset: Any) -> Iterator[Any]:
    """Yield the batches of a data set up to where its file is damaged."""
    import tensorflow as tf

    try:
        yield from dataset
    except tf.errors.OpError:
        return


def _explained(model: Path | None, mistakes: list[Mistake], found: dict[str, _Example]) -> list[tuple[Mistake, Shown]]:
    """Return the mistakes with their pictures, and with where the model looked if it can say so."""
    shown = [mistake for mistake in mistakes if mistake.digest in found]
    heatmaps = _heatmaps(model, [found[mistake.digest].content for mistake in shown])
    return [
        (mistake, Shown(mistake.origin, picture(found[mistake.digest].content), heatmap))
        for mistake, heatmap in zip(shown, heatmaps, strict=True)
    ]


def _heatmaps(model: Path | None, contents: list[bytes]) -> list[str]:
    """Return Grad-CAM of each image, or empty texts if the model has no such signature or is damaged."""
    import tensorflow as tf

    from serving.errors import ServingError
    from serving.gateway.overlay import as_data_url
    from serving.saved_model import SessionModel
    from trainer.explain import SIGNATURE

    nothing = [""] * len(contents)
    if model is None or not contents:
        return nothing
    try:
        with SessionModel.load(model) as loaded:
            if SIGNATURE not in loaded.signatures:
                return nothing
            answer = loaded.run(SIGNATURE, {"image_bytes": np.array(contents, object)}, ["heatmap"])
    except (ServingError, tf.errors.OpError):
        return nothing
    return [as_data_url(heatmap) for heatmap in answer["heatmap"]]


def picture(content: bytes) -> str:
    """Return an encoded image as a small one, as a data URL; empty if Pillow can't read it.

    Args:
        content: PNG, JPEG, GIF or BMP.
    """
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content)) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    image.thumbnail((_SIDE, _SIDE))
    out = io.BytesIO()
    kind = "PNG" if max(image.size) <= 32 else "JPEG"
    image.save(out, kind, quality=82, optimize=True)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
