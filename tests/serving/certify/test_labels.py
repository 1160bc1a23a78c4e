from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.certify.labels import Box, place

FRAME = Box(0, 0, 1000, 600)
inside = st.tuples(st.integers(30, 970), st.integers(30, 570))


def markers(points: list[tuple[int, int]]) -> list[Box]:
    return [Box(x - 8, y - 8, x + 8, y + 8) for x, y in points]


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(inside, min_size=1, max_size=8))
def test_labels_cover_neither_each_other_nor_leave_the_chart(points: list[tuple[int, int]]) -> None:
    boxes = place(points, [(110, 16)] * len(points), 8, FRAME)
    for index, box in enumerate(boxes):
        assert not any(box.overlap(other) > 1e-6 for other in boxes[index + 1 :])
        assert box.overlap(FRAME) / box.area > 1 - 1e-9


def test_a_lonely_label_stands_right_of_its_point() -> None:
    (box,) = place([(100, 100)], [(50, 10)], 8, FRAME)
    assert (box.left, box.bottom + box.top) == (111, 200)


def test_labels_cover_no_markers_where_there_is_room() -> None:
    points = [(100, 100), (130, 100), (160, 100), (130, 130)]
    boxes = place(points, [(60, 12)] * 4, 8, FRAME)
    assert not any(box.overlap(marker) for box in boxes for marker in markers(points))


def test_a_line_of_the_chart_is_avoided() -> None:
    (box,) = place([(100, 100)], [(50, 10)], 8, FRAME, [Box(0, 99, 1000, 101)])
    assert not box.overlap(Box(0, 99, 1000, 101))


def test_no_points_no_labels() -> None:
    assert place([], [], 8, FRAME) == []
