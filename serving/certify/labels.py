"""Places labels beside the points of a chart so that they cover neither each other nor a point.

Comes in: points and sizes of labels in pixels. Goes out: a place per label. Called by `serving.certify.picture`.
Greedy, crowded points first, then every label moves again in the light of all others. The method follows the
cost function of J. Christensen, J. Marks and S. Shieber, "An Empirical Study of Algorithms for Point-Feature Label
Placement", ACM Transactions on Graphics 14 (1995).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Point = tuple[float, float]

_DIRECTIONS = 16
_RINGS = (0.0, 12.0, 26.0, 42.0, 60.0, 82.0, 108.0, 140.0, 180.0, 230.0)
_GAP = 3.0
_PASSES = 4
_NEIGHBORHOOD = 120.0
# What makes a place bad, from worst to mildest: outside of the chart, on another label, on a marker, a leader
# line through a label or marker, on a line of the chart.
_COST_OUTSIDE, _COST_LABEL, _COST_MARKER, _COST_LEADER, _COST_LINE = 100.0, 40.0, 25.0, 6.0, 1.5


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, y upwards."""

    left: float
    bottom: float
    right: float
    top: float

    def overlap(self, other: Box) -> float:
        """Area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)

    def holds(self, point: Point) -> bool:
        """Whether a point lies inside."""
        return self.left <= point[0] <= self.right and self.bottom <= point[1] <= self.top

    def nearest(self, point: Point) -> Point:
        """The point of the box that is nearest to another point."""
        return min(max(point[0], self.left), self.right), min(max(point[1], self.bottom), self.top)

    @property
    def area(self) -> float:
        """Area."""
        return (self.right - self.left) * (self.top - self.bottom)


@dataclass(frozen=True)
class _Chart:
    """What labels must respect."""

    points: Sequence[Point]
    radius: float
    frame: Box
    lines: Sequence[Box]

    @property
    def markers(self) -> list[Box]:
        return [Box(x - self.radius, y - self.radius, x + self.radius, y + self.radius) for x, y in self.points]


def place(
    points: Sequence[Point], sizes: Sequence[tuple[float, float]], radius: float, frame: Box, lines: Sequence[Box] = ()
) -> list[Box]:
    """Find a place for the label of every point.

    Args:
        points: Centers of the markers, x and y.
        sizes: Width and height of each point's label.
        radius: Radius of the markers.
        frame: Where labels may be.
        lines: Lines of the chart as thin boxes, which labels avoid if that costs little.

    Returns:
        A box per label, in the order of the points.
    """
    chart = _Chart(points, radius, frame, lines)
    crowd = [sum(math.dist(point, other) < _NEIGHBORHOOD for other in points) for point in points]
    order = sorted(range(len(points)), key=lambda index: (-crowd[index], index))
    placed: dict[int, Box] = {}
    for _ in range(_PASSES):
        before = dict(placed)
        for index in order:
            others = [box for other, box in placed.items() if other != index]
            placed[index] = _best(index, sizes[index], others, chart)
        if placed == before:
            break
    return [placed[index] for index in range(len(points))]


def _best(index: int, size: tuple[float, float], others: Sequence[Box], chart: _Chart) -> Box:
    markers = chart.markers
    best, lowest = Box(0.0, 0.0, *size), math.inf
    for distance, box in _candidates(chart.points[index], size, chart.radius):
        # Candidates come in the order of distance: beyond this one all cost more than the best.
        if distance >= lowest + 1:
            break
        cost = distance + _cost(index, box, others, markers, chart)
        if cost < lowest:
            best, lowest = box, cost
    return best


def _candidates(point: Point, size: tuple[float, float], radius: float) -> Iterator[tuple[float, Box]]:
    """Places around a point with what their distance costs; right of it is best."""
    width, height = size
    for ring in _RINGS:
        for step in range(_DIRECTIONS):
            angle = 2 * math.pi * step / _DIRECTIONS
            across, up = math.cos(angle), math.sin(angle)
            x = point[0] + across * (radius + _GAP + ring) + (across - 1) / 2 * width
            y = point[1] + up * (radius + _GAP + ring) + (up - 1) / 2 * height
            preference = (1 - across) * 0.3 + abs(up) * 0.2
            yield ring / 8 + preference, Box(x, y, x + width, y + height)


def _cost(index: int, box: Box, others: Sequence[Box], markers: Sequence[Box], chart: _Chart) -> float:
    outside = 1 - box.overlap(chart.frame) / box.area
    padded = Box(box.left - _GAP, box.bottom - _GAP / 2, box.right + _GAP, box.top + _GAP / 2)
    labels = sum(1 + padded.overlap(other) / box.area for other in others if padded.overlap(other))
    covered = sum(1 for marker in markers if box.overlap(marker))
    lines = sum(1 for line in chart.lines if box.overlap(line))
    crossed = _crossed(index, box, others, markers, chart)
    return (
        outside * _COST_OUTSIDE
        + labels * _COST_LABEL
        + covered * _COST_MARKER
        + crossed * _COST_LEADER
        + lines * _COST_LINE
    )


def _crossed(index: int, box: Box, others: Sequence[Box], markers: Sequence[Box], chart: _Chart) -> int:
    """How many labels and markers the line from the point to its label would cross."""
    point = chart.points[index]
    end = box.nearest(point)
    length = math.dist(point, end)
    if length < 3 * chart.radius:
        return 0
    steps = [
        (point[0] + (end[0] - point[0]) * share, point[1] + (end[1] - point[1]) * share)
        for share in (part / 8 for part in range(1, 8))
        if length * share > chart.radius
    ]
    obstacles = [*others, *(marker for other, marker in enumerate(markers) if other != index)]
    return sum(1 for obstacle in obstacles if any(obstacle.holds(step) for step in steps))
