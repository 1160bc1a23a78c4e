"""The source `spans`: folders that arrive one after the other, each under a number, some of them corrected later.

A pattern such as `data/span-{SPAN}/v{VERSION}` comes in, one source of all images of the chosen spans goes out. Of a
span that exists in several versions the newest counts, so a corrected (backfilled) span never appears twice. What one
span holds is what the source `folder` takes: a folder per class, or such folders below `train`, `val` and `test`.
`transform.sources.registry` builds the source where the config's `data.source` holds `{SPAN}`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from transform.errors import DataError
from transform.settings import DataSettings, SpanSettings
from transform.sources.base import Listing
from transform.sources.folder import FolderSource
from transform.sources.refs import PathColumn, printable
from transform.sources.scan import holds_images, natural_key, scan_folder
from transform.sources.span_pattern import SpanPattern

_NAMED = 5

Accept = Callable[["Span"], bool]
"""Says whether a span's folder is complete; used by whoever watches data arrive."""


@dataclass(frozen=True)
class Span:
    """One folder that fits the pattern.

    Attributes:
        number: the span's number.
        version: its version; None where the pattern has no `{VERSION}`.
        path: the folder.
    """

    number: int
    version: int | None
    path: str

    def __str__(self) -> str:
        return str(self.number) if self.version is None else f"{self.number}/{self.version}"


@dataclass(frozen=True)
class Selection:
    """What a pattern led to.

    Attributes:
        spans: the chosen spans in the order of their numbers, each once.
        passed_over: folder and reason of those that would have been chosen, had they been complete.
    """

    spans: tuple[Span, ...]
    passed_over: tuple[tuple[str, str], ...]


def is_span_source(settings: DataSettings) -> bool:
    """Return whether `data.source` is a pattern with `{SPAN}`."""
    return SpanPattern.PLACEHOLDER in settings.source


def select(settings: DataSettings, accept: Accept | None = None) -> Selection:
    """Choose the spans of a config: of each number the newest complete version, then the window.

    Args:
        settings: the config's section `data`.
        accept: a further condition on a span's folder; a version that does not meet it counts as incomplete.

    Raises:
        DataError: nothing fits, two folders are the same span, or a span of `data.spans.only` is missing.
    """
    wanted = settings.spans
    pattern = SpanPattern.parse(settings.source)
    found = [Span(number, version, path) for number, version, path in pattern.folders()]
    if not found:
        raise DataError(pattern.nothing_fits())
    _require_unique(found)
    if wanted.only:
        return Selection(_exactly(wanted.only, found, settings.source), ())
    inside = [span for span in found if wanted.holds(span.number)]
    if not inside:
        numbers = sorted({span.number for span in found})
        raise DataError(
            f"data.spans: no span {wanted.in_words()}; found are the spans {_shown(numbers)}. Change from and to."
        )
    chosen, passed_over = _newest_complete(inside, wanted, accept)
    if not chosen:
        reasons = "\n".join(f"  {printable(path)}: {reason}" for path, reason in passed_over[:_NAMED])
        raise DataError(f"data.source {settings.source!r}: no span is complete.\n{reasons}")
    if wanted.window != "all":
        chosen = chosen[-wanted.window :]
    _require_different(chosen)
    return Selection(tuple(chosen), tuple(passed_over))


def pinned(settings: DataSettings, accept: Accept | None = None) -> DataSettings:
    """Return settings that mean the spans of now, whatever arrives later.

    A run pins its spans once, so that its first look at the data, its workers and a run driven node by node see the
    same ones.

    Args:
        settings: the config's section `data`; returned as it is where the source has no spans.
        accept: see `select`.
    """
    if not is_span_source(settings):
        return settings
    only = tuple(str(span) for span in select(settings, accept).spans)
    return settings.model_copy(
        update={"spans": SpanSettings.model_validate({"only": only, "labels": settings.spans.labels})}
    )


def span_numbers(settings: DataSettings) -> list[tuple[int, int | None]]:
    """Return number and version of each span that settings from `pinned` name; none for other sources."""
    return [parse_span(text) for text in settings.spans.only]


def parse_span(text: str) -> tuple[int, int | None]:
    """Read `SPAN` or `SPAN/VERSION`."""
    number, _, version = text.partition("/")
    return int(number), int(version) if version else None


def _newest_complete(
    spans: list[Span], wanted: SpanSettings, accept: Accept | None
) -> tuple[list[Span], list[tuple[str, str]]]:
    """Return the newest complete version of each span by number, and what was passed over."""
    chosen: dict[int, Span] = {}
    passed_over: list[tuple[str, str]] = []
    for span in sorted(spans, key=lambda s: (s.number, s.version or 0), reverse=True):
        if span.number in chosen:
            continue
        reason = _incomplete(span, wanted, accept)
        if reason:
            passed_over.append((span.path, reason))
        else:
            chosen[span.number] = span
    return [chosen[number] for number in sorted(chosen)], passed_over


def _incomplete(span: Span, wanted: SpanSettings, accept: Accept | None) -> str:
    if wanted.marker is not None and not os.path.exists(os.path.join(span.path, wanted.marker)):
        return f"has no {wanted.marker} yet (data.spans.marker)"
    if not holds_images(span.path):
        return "holds no images"
    return "is still changing" if accept is not None and not accept(span) else ""


def _exactly(only: tuple[str, ...], found: list[Span], source: str) -> tuple[Span, ...]:
    chosen = []
    for text in only:
        number, version = parse_span(text)
        fitting = [span for span in found if span.number == number and version in (None, span.version)]
        if not fitting:
            raise DataError(
                f"data.spans.only names the span {text}, which {source!r} does not lead to; found are "
                f"{_shown(found)}. Bring it back, or name others."
            )
        chosen.append(max(fitting, key=lambda span: span.version or 0))
    chosen.sort(key=lambda span: span.number)
    twice = [str(a.number) for a, b in itertools.pairwise(chosen) if a.number == b.number]
    if twice:
        raise DataError(f"data.spans.only names the span {twice[0]} twice; each span counts once.")
    return tuple(chosen)


def _require_unique(spans: list[Span]) -> None:
    """Refuse two folders that are the same span and version by different spellings, such as 1 and 01."""
    seen: dict[str, Span] = {}
    for span in spans:
        other = seen.setdefault(str(span), span)
        if other is not span:
            raise DataError(
                f"{printable(other.path)!r} and {printable(span.path)!r} are both the span {span}; keep one, so that "
                "its images do not count twice."
            )


def _require_different(spans: list[Span]) -> None:
    """Refuse two spans that are one folder by way of a link."""
    places: dict[str, Span] = {}
    for span in spans:
        other = places.setdefault(os.path.realpath(span.path), span)
        if other is not span:
            raise DataError(
                f"{printable(span.path)!r} and {printable(other.path)!r} are the same folder, by way of a link; its "
                "images would count twice. Remove one of them."
            )


def _shown(items: Iterable[Any]) -> str:
    """Return some items in words; of many, the last ones."""
    texts = [str(item) for item in items]
    return (f"… {', '.join(texts[-20:])} ({len(texts)} in all)") if len(texts) > 20 else ", ".join(texts)


class SpanSource(FolderSource):
    """The images of several spans as one source; content and fingerprint do not depend on how they are cut.

    Args:
        root: a folder above all spans.
        selection: the spans.
        same_labels: whether every span must have the same classes.
    """

    def __init__(self, root: str, selection: Selection, same_labels: bool = True) -> None:
        super().__init__(root, "spans")
        self.selection = selection
        self.same_labels = same_labels

    def listing(self) -> Listing:
        """Return all images of all spans; see `Source.listing`."""
        if self._listing is None:
            self._parts = [scan_folder(span.path, least_classes=1) for span in self.selection.spans]
            self._listing = self._union(self._parts)
        return self._listing

    def provenance(self) -> dict[str, Any]:
        """Return which spans the images are from; see `Source.provenance`."""
        self.listing()
        numbers = [span.number for span in self.selection.spans]
        used = [
            {"span": span.number, "version": span.version, "folder": self._relative(span.path), "images": len(part)}
            for span, part in zip(self.selection.spans, self._parts, strict=True)
        ]
        passed_over = [
            {"folder": self._relative(path), "reason": reason} for path, reason in self.selection.passed_over
        ]
        return {"from": min(numbers), "to": max(numbers), "used": used, "passed_over": passed_over}

    def _relative(self, path: str) -> str:
        return printable(os.path.relpath(os.path.realpath(path), self.root))

    def _union(self, parts: list[Listing]) -> Listing:
        labels = self._labels(parts)
        ids = {label: index for index, label in enumerate(labels)}
        _require_same_layout(self.selection.spans, parts)
        ignored: dict[str, int] = {}
        for part in parts:
            for reason, count in part.ignored.items():
                ignored[reason] = ignored.get(reason, 0) + count
        folders = [os.path.relpath(os.path.realpath(span.path), self.root) for span in self.selection.spans]
        renumbered = [np.array([ids[label] for label in part.labels], np.int32)[part.label_ids] for part in parts]
        return Listing(
            PathColumn(
                os.path.join(folder, ref) for folder, part in zip(folders, parts, strict=True) for ref in part.refs
            ),
            np.concatenate(renumbered),
            np.concatenate([part.given_split for part in parts]),
            labels,
            ignored,
        )

    def _labels(self, parts: list[Listing]) -> tuple[str, ...]:
        """Return the classes of all spans, or refuse spans that do not agree."""
        every = tuple(sorted({label for part in parts for label in part.labels}, key=natural_key))
        if self.same_labels:
            for span, part in zip(self.selection.spans, parts, strict=True):
                if set(part.labels) != set(every):
                    raise DataError(self._disagreement(span, part, parts, every))
        if len(every) < 2:
            raise DataError(f"the spans hold one class with images, {every[0]!r}; expected at least two.")
        return every

    def _disagreement(self, span: Span, part: Listing, parts: list[Listing], every: tuple[str, ...]) -> str:
        missing = [label for label in every if label not in part.labels]
        holder = next(s for s, p in zip(self.selection.spans, parts, strict=True) if missing[0] in p.labels)
        named = ", ".join(map(repr, missing[:_NAMED])) + (f" and {len(missing) - _NAMED} more" if missing[5:] else "")
        return (
            f"the classes of the spans differ: span {span} ({printable(span.path)!r}) lacks {named}, which span "
            f"{holder} has. Correct the folders' names, choose other spans by data.spans, or set data.spans.labels: "
            "union if a span may lack classes."
        )


def _require_same_layout(spans: tuple[Span, ...], parts: list[Listing]) -> None:
    """Refuse a mixture of spans that give splits and spans that leave them to the hash."""
    gives = [bool((part.given_split >= 0).any()) for part in parts]
    if any(gives) and not all(gives):
        with_splits, without = spans[gives.index(True)], spans[gives.index(False)]
        raise DataError(
            f"span {with_splits} has the folders train, val or test, span {without} has none; a mixture would judge "
            "models on some spans only. Give all spans the same layout."
        )


def span_source(settings: DataSettings) -> SpanSource:
    """Return the spans that the pattern in `data.source` leads to."""
    base = SpanPattern.parse(settings.source).base
    return SpanSource(base, select(settings), settings.spans.labels == "same")
