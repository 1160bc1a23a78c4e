"""How much of a model TensorRT would take over, found out on any machine, before a GPU is rented.

Comes in: a SavedModel and a precision. Goes out: `Coverage`, the share of the operations that end up in engines, and
what keeps the others out. Called by `serving.convert.tftrt` and by whoever plans a deployment.

TensorFlow's own segmenter decides, in a process of its own (`serving.convert.tftrt_segmenting`), which neither builds
nor runs an engine.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from serving.convert import child
from serving.errors import ConversionError, UnavailableError

MINIMUM_SEGMENT_SIZE = 3
PRECISIONS = ("FP32", "FP16", "INT8")
_ENGINE = "TRTEngineOp"
_SEGMENT = "_native_segment"
# They calculate nothing: the frame of a graph, not work that an engine could take over.
_PLUMBING = frozenset({"Const", "Identity", "IdentityN", "NoOp", "Placeholder", "_Arg", "_Retval", _ENGINE})


@dataclass(frozen=True)
class Coverage:
    """What TensorRT would take over.

    Attributes:
        nodes: Operations of the optimized graph that calculate something.
        nodes_in_engines: Those of them in engines.
        share: `nodes_in_engines / nodes`; 0 if there are none.
        engines: Number of engines.
        unsupported: What cannot run in an engine: kind of operation -> `{"count": n, "reasons": [...]}`.
        left_out: What could, but lies in a segment that is too small: kind of operation -> count.
    """

    nodes: int
    nodes_in_engines: int
    share: float
    engines: int
    unsupported: dict[str, dict[str, Any]]
    left_out: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for the details of an outcome."""
        return asdict(self)


def segments(
    saved_model: Path | str,
    precision: str = "FP16",
    minimum_segment_size: int = MINIMUM_SEGMENT_SIZE,
    *,
    signature: str | None = None,
    options: Mapping[str, Any] | None = None,
    timeout_seconds: float = 240,
) -> Coverage:
    """Find out what TensorRT would take over, without TensorRT and without a GPU.

    Args:
        saved_model: Directory of the SavedModel.
        precision: `FP32`, `FP16` or `INT8`.
        minimum_segment_size: Fewest nodes that are worth an engine.
        signature: Signature of the model; None chooses.
        options: `output` and `scores` of `serving.convert.source.open_source`.
        timeout_seconds: Time limit.

    Returns:
        The coverage.

    Raises:
        UnavailableError: TensorRT's libraries are not installed, and there is no C compiler to make stand-ins with.
        ConversionError: The model cannot be read, or the segmenter crashed or hung.
    """
    check_settings(precision, minimum_segment_size)
    compiler = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    if compiler is None:
        raise UnavailableError(
            "the coverage needs a C compiler for two stand-ins of TensorRT's libraries, and neither cc, gcc nor clang "
            "is on PATH; install one, such as the package gcc."
        )
    with tempfile.TemporaryDirectory(prefix="slipway-segments-") as scratch:
        libraries, report = Path(scratch) / "lib", Path(scratch) / "report.csv"
        libraries.mkdir()
        question = {
            "saved_model": str(Path(saved_model).absolute()),
            "signature": signature,
            "options": dict(options or {}),
            "precision": precision,
            "minimum_segment_size": minimum_segment_size,
            "compiler": compiler,
            "libraries": str(libraries),
            "report": str(report),
        }
        environment = {
            "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (str(libraries), os.environ.get("LD_LIBRARY_PATH")))),
            "CUDA_VISIBLE_DEVICES": "-1",
            "TF_TRT_SHOW_DETAILED_REPORT": str(report),
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        fields = child.ask("serving.convert.tftrt_segmenting", question, environment, timeout_seconds)
    return Coverage(**fields)


def check_settings(precision: str, minimum_segment_size: int) -> None:
    """Raise `ConversionError` for a precision or a segment size that TF-TRT does not know."""
    if precision not in PRECISIONS:
        raise ConversionError(f"the precision is {precision!r}; expected one of {', '.join(PRECISIONS)}.")
    whole = isinstance(minimum_segment_size, int) and not isinstance(minimum_segment_size, bool)
    if not whole or minimum_segment_size < 1:
        raise ConversionError(f"`minimum_segment_size` is {minimum_segment_size!r}; expected a number of 1 or more.")


def coverage_of(graph_def: Any, report: Path) -> Coverage:
    """Count what is in engines and what is not.

    Args:
        graph_def: The converted graph, with the segments in its library.
        report: What TensorFlow wrote to the file that TF_TRT_SHOW_DETAILED_REPORT names.
    """
    outside = _work(graph_def.node)
    inside: Counter[str] = Counter()
    for function in graph_def.library.function:
        if function.signature.name.endswith(_SEGMENT):
            inside += _work(function.node_def)
    unsupported = read_report(report)
    left_out = {
        op: count - known
        for op, count in sorted(outside.items())
        if (known := unsupported.get(op, {"count": 0})["count"]) < count
    }
    total = outside.total() + inside.total()
    return Coverage(
        nodes=total,
        nodes_in_engines=inside.total(),
        share=inside.total() / total if total else 0.0,
        engines=sum(node.op == _ENGINE for node in graph_def.node),
        unsupported=unsupported,
        left_out=left_out,
    )


def read_report(report: Path) -> dict[str, dict[str, Any]]:
    """Read TensorFlow's list of unsupported operations: lines of `OP Name|Reason|Count`.

    Returns:
        Kind of operation -> `{"count": n, "reasons": [...]}`; empty if there is no report.
    """
    if not report.is_file():
        return {}
    found: dict[str, dict[str, Any]] = {}
    for line in report.read_text(encoding="utf-8", errors="replace").splitlines():
        op, _, rest = line.partition("|")
        # The reason is free text and may hold the delimiter itself.
        reason, _, count = rest.rpartition("|")
        if reason and count.strip().isdecimal() and op not in _PLUMBING:
            entry = found.setdefault(op, {"count": 0, "reasons": []})
            entry["count"] += int(count)
            entry["reasons"].append(reason.strip())
    return dict(sorted(found.items()))


def _work(nodes: Any) -> Counter[str]:
    return Counter(node.op for node in nodes if node.op not in _PLUMBING)


def coverage_sentence(details: Mapping[str, Any]) -> str:
    """How much of the graph TensorRT would take, from the details of an outcome; empty if they do not tell."""
    coverage = details.get("coverage") or {}
    if "share" not in coverage:
        return ""
    engines = coverage["engines"]
    sentence = f"{coverage['share']:.0%} of its operations would run in {engines} engine{'' if engines == 1 else 's'}"
    unsupported = coverage.get("unsupported") or {}
    return f"{sentence}; not supported: {', '.join(unsupported)}." if unsupported else f"{sentence}."
