"""Spans on disk: which folders are taken, what their union is, and what is refused."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from transform.errors import DataError
from transform.ingest import ingest_local
from transform.settings import DataSettings, SpanSettings
from transform.sources import build_source
from transform.sources.folder import FolderSource
from transform.sources.span_pattern import SpanPattern
from transform.sources.spans import pinned, select, span_numbers

PATTERN = "span-{SPAN}/v{VERSION}"
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """`write("span-1/v1", {"a": 2, "b": 1})`: a folder of so many different files per class."""

    def make(folder: str, classes: dict[str, int] | None = None, marker: str = "") -> Path:
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        for label, count in ({"a": 2, "b": 2} if classes is None else classes).items():
            (place / label).mkdir(exist_ok=True)
            for number in range(count):
                (place / label / f"{number}.png").write_bytes(f"{folder} {label} {number}".encode())
        if marker:
            (place / marker).touch()
        return place

    return make


def settings(root: Path, pattern: str = PATTERN, **spans: Any) -> DataSettings:
    values: dict[str, Any] = {"source": str(root / pattern)}
    return DataSettings.model_validate({**values, "spans": spans} if spans else values)


def chosen(root: Path, pattern: str = PATTERN, **spans: Any) -> list[str]:
    return [str(span) for span in select(settings(root, pattern, **spans)).spans]


def test_of_each_span_the_newest_version_counts(write, tmp_path):
    for folder in ("span-1/v1", "span-1/v2", "span-2/v10", "span-2/v9", "span-7/v1"):
        write(folder)
    assert chosen(tmp_path) == ["1/2", "2/10", "7/1"]


def test_a_backfilled_span_appears_once(write, tmp_path):
    write("span-1/v1")
    write("span-2/v1")
    write("span-1/v2", {"a": 3, "b": 1})
    listing = build_source(settings(tmp_path)).listing()
    assert sorted(listing.refs) == sorted(
        [f"span-1/v2/a/{n}.png" for n in range(3)]
        + ["span-1/v2/b/0.png"]
        + [f"span-2/v1/{c}/{n}.png" for c in "ab" for n in range(2)]
    )


def test_numbers_may_be_padded_and_counted_from_anywhere(write, tmp_path):
    for folder in ("0007", "0010", "0009", "x10", "-3", "11.part", ".0012", "0013.5"):
        write(folder)
    assert chosen(tmp_path, "{SPAN}") == ["7", "9", "10"]
    assert chosen(tmp_path, "{SPAN:4}") == ["7", "9", "10"]
    assert chosen(tmp_path, "{SPAN}", window=2) == ["9", "10"]


def test_an_exact_width_passes_over_other_numbers(write, tmp_path):
    write("span-01")
    write("span-002")
    assert chosen(tmp_path, "span-{SPAN:2}") == ["1"]


def test_two_spellings_of_one_span_are_refused(write, tmp_path):
    write("span-1/v1")
    write("span-01/v1")
    with pytest.raises(DataError, match=r"span-01.*span-1.*both the span 1/1"):
        select(settings(tmp_path))


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ({"window": 2}, ["4/1", "9/1"]),
        ({"window": 99}, ["1/1", "2/1", "4/1", "9/1"]),
        ({"window": "all"}, ["1/1", "2/1", "4/1", "9/1"]),
        ({"from": 2}, ["2/1", "4/1", "9/1"]),
        ({"to": 4}, ["1/1", "2/1", "4/1"]),
        ({"to": 4, "window": 1}, ["4/1"]),
        ({"from": 3, "to": 8}, ["4/1"]),
        ({"only": ["9/1", "2"]}, ["2/1", "9/1"]),
    ],
)
def test_the_window_slides_over_gaps(write, tmp_path, spans, expected):
    for number in (1, 2, 4, 9):
        write(f"span-{number}/v1")
    assert chosen(tmp_path, **spans) == expected


def test_a_window_without_spans_names_those_that_there_are(write, tmp_path):
    write("span-3/v1")
    with pytest.raises(DataError, match=r"no span from 4.*found are the spans 3"):
        select(settings(tmp_path, **{"from": 4}))
    with pytest.raises(DataError, match=r"names the span 5, which .* found are 3/1"):
        select(settings(tmp_path, only=["5"]))
    with pytest.raises(DataError, match="names the span 3 twice"):
        select(settings(tmp_path, only=["3", "3/1"]))


def test_empty_spans_and_versions_are_passed_over_with_their_reason(write, tmp_path):
    write("span-1/v1")
    write("span-1/v2", {})
    write("span-2/v1", {})
    write("span-3/v1")
    (tmp_path / "span-2/v1/.DS_Store").touch()
    selection = select(settings(tmp_path))
    assert [str(span) for span in selection.spans] == ["1/1", "3/1"]
    assert {os.path.relpath(path, tmp_path): reason for path, reason in selection.passed_over} == {
        "span-1/v2": "holds no images",
        "span-2/v1": "holds no images",
    }


def test_without_its_marker_a_version_is_still_on_its_way(write, tmp_path):
    write("span-1/v1", marker="_SUCCESS")
    write("span-1/v2")
    write("span-2/v1")
    assert chosen(tmp_path, marker="_SUCCESS") == ["1/1"]
    (tmp_path / "span-1/v2/_SUCCESS").touch()
    assert chosen(tmp_path, marker="_SUCCESS") == ["1/2"]
    with pytest.raises(DataError, match=r"no span is complete.*\n.*has no DONE yet"):
        select(settings(tmp_path, marker="DONE"))


def test_nothing_there_says_what_is_there(write, tmp_path):
    write("day-1")
    with pytest.raises(DataError, match=r"no folder fits the pattern '.*span-\{SPAN\}/v\{VERSION\}'.* are day-1\."):
        build_source(settings(tmp_path))
    with pytest.raises(DataError, match="nowhere' cannot be read: No such file"):
        build_source(settings(tmp_path / "nowhere"))


def test_a_span_by_way_of_a_link_would_count_twice(write, tmp_path):
    write("span-1/v1")
    (tmp_path / "span-2").symlink_to(tmp_path / "span-1")
    with pytest.raises(DataError, match="are the same folder, by way of a link"):
        build_source(settings(tmp_path))


class TestLabels:
    def test_spans_whose_classes_differ_are_refused(self, write, tmp_path):
        write("span-1/v1", {"a": 1, "b": 1})
        write("span-2/v1", {"a": 1, "b": 1, "c": 1})
        with pytest.raises(DataError, match=r"span 1/1 .* lacks 'c', which span 2/1 has"):
            build_source(settings(tmp_path)).listing()

    def test_a_span_may_lack_classes_where_that_is_wanted(self, write, tmp_path):
        write("span-1/v1", {"b": 2, "c": 1})
        write("span-2/v1", {"a": 3})
        listing = build_source(settings(tmp_path, labels="union")).listing()
        assert listing.labels == ("a", "b", "c")
        named = {(ref.split("/")[2], listing.labels[i]) for ref, i in zip(listing.refs, listing.label_ids, strict=True)}
        assert named == {("a", "a"), ("b", "b"), ("c", "c")}

    def test_one_class_is_not_enough(self, write, tmp_path):
        write("span-1/v1", {"a": 2})
        with pytest.raises(DataError, match="one class with images, 'a'"):
            build_source(settings(tmp_path)).listing()

    def test_spans_with_splits_and_without_do_not_mix(self, write, tmp_path):
        write("span-1/v1")
        for split in ("train", "test"):
            write(f"span-2/v1/{split}")
        with pytest.raises(DataError, match="span 2/1 has the folders train, val or test, span 1/1 has none"):
            build_source(settings(tmp_path)).listing()


class TestContent:
    def test_the_fingerprint_is_that_of_the_content_however_it_is_cut(self, write, tmp_path):
        write("all", {"a": 4, "b": 2})
        whole = FolderSource(str(tmp_path / "all")).fingerprint()
        for folder, numbers in (("span-1/v1", (0, 1)), ("span-3/v2", (2, 3))):
            for label in "ab":
                place = tmp_path / folder / label
                place.mkdir(parents=True)
                for number in numbers if label == "a" else numbers[:1]:
                    (place / f"{number}.png").write_bytes(
                        f"all {label} {number % 2 if label == 'b' else number}".encode()
                    )
        (tmp_path / "span-3/v2/b/2.png").write_bytes(b"all b 1")
        assert build_source(settings(tmp_path)).fingerprint() == whole

    def test_another_span_is_another_fingerprint(self, write, tmp_path):
        write("span-1/v1")
        first = build_source(settings(tmp_path)).fingerprint()
        write("span-2/v1")
        assert build_source(settings(tmp_path)).fingerprint() != first

    def test_files_are_read_by_index_also_from_a_pickled_copy(self, write, tmp_path):
        write("span-1/v1")
        write("span-2/v1")
        source = pickle.loads(pickle.dumps(build_source(settings(tmp_path))))
        listing = source.listing()
        (index,) = [i for i, ref in enumerate(listing.refs) if ref == "span-2/v1/b/1.png"]
        assert list(source.read(np.array([index]))) == [b"span-2/v1 b 1"]

    def test_the_report_says_which_spans(self, write, tmp_path):
        write("span-2/v1")
        write("span-05/v3", {"a": 1, "b": 3})
        write("span-6/v1", {})
        assert build_source(settings(tmp_path)).provenance() == {
            "from": 2,
            "to": 5,
            "used": [
                {"span": 2, "version": 1, "folder": "span-2/v1", "images": 4},
                {"span": 5, "version": 3, "folder": "span-05/v3", "images": 4},
            ],
            "passed_over": [{"folder": "span-6/v1", "reason": "holds no images"}],
        }


class TestPinned:
    def test_what_arrives_later_is_not_part_of_a_pinned_run(self, write, tmp_path):
        write("span-1/v1")
        data = pinned(settings(tmp_path, window=3))
        assert span_numbers(data) == [(1, 1)]
        write("span-1/v2")
        write("span-2/v1")
        assert [str(span) for span in select(data).spans] == ["1/1"]
        assert pinned(data) == data

    def test_other_sources_have_no_spans(self, tmp_path):
        data = DataSettings.model_validate({"source": str(tmp_path)})
        assert pinned(data) is data
        assert span_numbers(data) == []

    def test_folders_that_are_not_accepted_are_replaced_by_an_older_version(self, write, tmp_path):
        write("span-1/v1")
        write("span-1/v2")
        assert span_numbers(pinned(settings(tmp_path), lambda span: span.version == 1)) == [(1, 1)]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("data/{span}", r"holds \{span\}; expected \{SPAN\}"),
        ("data/{YYYY}-{MM}", r"holds \{YYYY\}; expected \{SPAN\}"),
        ("data/v{VERSION}", r"holds \{SPAN\} 0 times"),
        ("data/{SPAN}/{SPAN}", r"holds \{SPAN\} 2 times"),
        ("data/{SPAN}{VERSION}", "nothing between two placeholders"),
        ("data/{SPAN:0}", r"holds \{SPAN:0\}"),
    ],
)
def test_a_pattern_that_means_nothing_is_refused_in_the_config(source, message):
    with pytest.raises(ValidationError, match=message):
        DataSettings.model_validate({"source": source})


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ({"window": 0}, "expected 1 or more spans, or all"),
        ({"from": 3, "to": 2}, "expected from <= to"),
        ({"marker": "a/b"}, "name of a file"),
        ({"only": ["3.1"]}, "expected SPAN or SPAN/VERSION"),
    ],
)
def test_settings_that_contradict_themselves(spans, message):
    with pytest.raises(ValidationError, match=message):
        SpanSettings.model_validate(spans)


def test_spans_of_a_plain_folder_are_refused():
    with pytest.raises(ValidationError, match="write a pattern such as"):
        DataSettings.model_validate({"source": "data", "spans": {"window": 2}})


@given(
    st.dictionaries(st.integers(0, 30), st.sets(st.integers(0, 12), min_size=1, max_size=3), min_size=1, max_size=6),
    st.integers(1, 7),
    st.integers(1, 4),
)
def test_every_number_at_most_once_and_always_its_newest(tmp_path_factory, versions, window, width):
    root = tmp_path_factory.mktemp("spans")
    for number, found in versions.items():
        for version in found:
            place = root / f"span-{number:0{width}}" / f"v{version}" / "a"
            place.mkdir(parents=True)
            (place / "1.png").touch()
    expected = [f"{number}/{max(versions[number])}" for number in sorted(versions)[-window:]]
    assert chosen(root, window=window) == expected


@given(st.text("abc.-_+(){}[]^$\\", max_size=8), st.integers(0, 10**17))
def test_names_around_a_placeholder_mean_themselves(name, number):
    pattern = SpanPattern.parse(f"/base/{name}x{{SPAN}}y{name}")
    (part,) = pattern.parts
    assert not isinstance(part, str)
    match = part.fullmatch(f"{name}x{number}y{name}")
    assert match is not None and int(match["SPAN"]) == number
    assert part.fullmatch(f"{name}x{number}y{name}z") is None


@pytest.fixture
def pictures(tmp_path: Path, encode) -> Callable[..., None]:
    def make(folder: str, seed: int, count: int = 12) -> None:
        for index, label in enumerate(("cats", "dogs")):
            place = tmp_path / folder / label
            place.mkdir(parents=True)
            for number in range(count):
                (place / f"{number}.png").write_bytes(encode(10_000 * seed + 100 * index + number))

    return make


def test_splits_stay_as_they_were_when_spans_come_and_go(pictures, tmp_path):
    from transform.ledger import Ledger

    ledger = str(tmp_path / "splits.npz")

    def places(data: DataSettings) -> dict[str, int]:
        ingest_local(build_source(data), data, str(tmp_path / f"out-{len(os.listdir(tmp_path))}"), ledger)
        kept = Ledger.load(ledger, data.split)
        return {digest.tobytes().hex(): int(split) for digest, split in zip(kept.digests, kept.splits, strict=True)}

    pictures("span-1/v1", 1)
    first = places(settings(tmp_path))
    pictures("span-2/v1", 2)
    pictures("span-3/v1", 3)
    grown = places(settings(tmp_path))
    slid = places(settings(tmp_path, window=1))
    back = places(settings(tmp_path, to=1))
    assert len(first) == 24 and len(grown) == 72
    assert first.items() <= grown.items() <= slid.items() <= back.items()
