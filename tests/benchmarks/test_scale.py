"""The benchmark of the data stages: its pictures differ, and its sentence says what the table says."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.scale.pictures import CLASSES, numbered, write_pictures
from benchmarks.scale.summary import crossing, sentence, walls


def test_pictures_are_the_same_at_every_call_and_no_two_are_equal(tmp_path):
    first, second = (write_pictures(tmp_path / name, 500) for name in ("a", "b"))
    contents = [path.read_bytes() for path in sorted(first.rglob("*.jpg"))]
    assert contents == [path.read_bytes() for path in sorted(second.rglob("*.jpg"))]
    assert len(set(contents)) == len(contents) == 500
    assert sorted(path.name for path in first.iterdir()) == sorted(CLASSES)
    picture = Image.open(io.BytesIO(contents[0]))
    picture.load()
    assert picture.format == "JPEG"
    assert numbered(contents[0], 1) != numbered(contents[0], 2)


def table(times: dict[tuple[str, int], dict[int, float]]) -> list[dict[str, str]]:
    """Return rows as the benchmark writes them."""
    shared = {"stage": "all", "cores": "2"}
    return [
        {**shared, "engine": engine, "workers": str(workers), "images": str(images), "wall_s": str(wall)}
        for (engine, workers), walls_ in times.items()
        for images, wall in walls_.items()
    ]


@given(st.floats(0, 50), st.floats(1e-4, 1e-2), st.floats(0.1, 100), st.floats(0.1, 0.9))
def test_two_lines_cross_where_both_take_the_same_time(start, slope, later, faster):
    direct = {n: start + slope * n for n in (7_000, 70_000)}
    shared = {n: start + later + slope * faster * n for n in (7_000, 70_000)}
    at = crossing(direct, shared)
    assert at == pytest.approx(later / (slope * (1 - faster)), rel=1e-3)


def test_the_sentence_names_the_size_from_which_on_workers_pay():
    times = {
        ("direct", 1): {7_000: 7.0, 70_000: 70.0, 700_000: 700.0},
        ("workers", 1): {7_000: 20.0, 70_000: 90.0},
        ("workers", 2): {7_000: 14.0, 70_000: 50.0, 700_000: 410.0},
    }
    text = sentence(table(times))
    assert "faster with 2 workers" in text and "about 23,000 pictures" in text
    assert "at 700,000 they take 410 s in place of 700 s, a factor of 1.7" in text
    assert walls(table(times), "workers", 1) == {7_000: 20.0, 70_000: 90.0}


def test_the_sentence_is_honest_where_workers_never_pay_or_nothing_is_known():
    slower = {("direct", 1): {7_000: 7.0, 70_000: 70.0}, ("workers", 2): {7_000: 14.0, 70_000: 90.0}}
    assert "longer than one process at every size" in sentence(table(slower))
    assert "Too few sizes" in sentence(table({("direct", 1): {7_000: 7.0}}))
    beyond = {("direct", 1): {7_000: 7.0, 70_000: 70.0}, ("workers", 2): {7_000: 67.0, 70_000: 110.0}}
    assert "beyond the 70,000 that were measured" in sentence(table(beyond))
