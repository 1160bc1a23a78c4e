"""The A/B report as a small SVG picture: intervals of the differences, and the latencies.

Comes in: an `ABReport`. Goes out: SVG text without scripts or links. Called by the commands and the gateway.
"""

from __future__ import annotations

from html import escape

from serving.traffic.report import ABReport, Arm, Comparison

_WIDTH, _LEFT, _RIGHT = 640, 150, 600
_COLORS = {"canary": "#2e7d32", "stable": "#c62828", "undecided": "#546e7a"}
_ARM_COLORS = (("stable", "#1565c0"), ("canary", "#ef6c00"))


def svg(report: ABReport) -> str:
    """Draw the report."""
    lines = [_text(10, 24, f"{report.model}: version {report.canary.version} against {report.stable.version}", 16)]
    lines += _interval(70, "right answers", report.feedback)
    lines += _interval(120, "failed answers", report.errors)
    lines += _latencies(175, report)
    height = 290
    lines.append(_text(10, height - 12, report.headline[:110], 11))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'font-family="sans-serif" role="img" aria-label="{escape(report.headline)}">'
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>{"".join(lines)}</svg>\n'
    )


def _interval(y: int, name: str, found: Comparison) -> list[str]:
    """The difference with its confidence sequence, on a scale that just holds both."""
    reach = max(abs(found.low), abs(found.high), 1e-6)

    def at(value: float) -> float:
        return (_LEFT + _RIGHT) / 2 + value / reach * (_RIGHT - _LEFT) / 2

    color = _COLORS[found.winner]
    lines = [
        _text(10, y + 4, name, 13),
        _line(at(0), y - 16, at(0), y + 16, "#b0bec5"),
        _line(at(found.low), y, at(found.high), y, color, 3),
        _text(at(found.low), y + 20, f"{100 * found.low:+.2f}", 10),
        _text(at(found.high), y + 20, f"{100 * found.high:+.2f}", 10, "end"),
    ]
    if found.difference is not None:
        lines.append(f'<circle cx="{at(found.difference):.1f}" cy="{y}" r="5" fill="{color}"/>')
    return lines


def _latencies(y: int, report: ABReport) -> list[str]:
    arms: dict[str, Arm] = {"stable": report.stable, "canary": report.canary}
    longest = max((arm.p99 or 0.0 for arm in arms.values()), default=0.0)
    lines = [_text(10, y, "latency (ms), p50 p95 p99", 13)]
    for row, (name, color) in enumerate(_ARM_COLORS):
        top, arm = y + 20 + 26 * row, arms[name]
        lines.append(_text(10, top + 4, f"{name} {arm.version}", 12))
        for value in (arm.p50, arm.p95, arm.p99):
            if value is not None and longest:
                x = _LEFT + value / longest * (_RIGHT - _LEFT)
                lines.append(_line(x, top - 8, x, top + 8, color, 3))
                lines.append(_text(x, top + 20, f"{value:.1f}", 9, "end"))
    return lines


def _text(x: float, y: float, content: str, size: int, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}">{escape(content)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: int = 1) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{color}" stroke-width="{width}"/>'
