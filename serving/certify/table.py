"""The results table: one row per variant, whatever became of it; written whole and read back strictly.

Comes in: measurements and verdicts, or the reason why there is nothing to measure. Goes out: CSV for people and
spreadsheets, JSON for programs. Called by the pipeline's optimizer, the benchmark, the picks and the picture.

Figures of quality are those of the split that is published (`report`); the verdict was made on the other one
(`choose`). Numbers that do not exist are empty in CSV and null in JSON.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from serving.certify.cells import fits, from_text, kinds_of, to_text, words
from serving.durable import write_durably
from serving.errors import ServingError
from serving.measure.measurement import Measurement

Status = Literal["ok", "refused", "skipped", "failed"]

_SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """One variant in the results table.

    Attributes:
        variant: Its name: the form, after the technique if there is one.
        technique: How it was trained further; empty if it was only converted.
        form: Its form, such as `tflite_int8`.
        runtime: What executes it.
        status: `ok`, `refused` by a gate, `skipped` because this machine lacks what it needs, or `failed`.
        reason: Why it is not ok, or what else a reader should know.
        bytes: Size of its files.
        gz_bytes: Size after gzip.
        parameters: Numbers stored as kernels and biases.
        multiply_adds: For one image.
        sparsity: Share of zeros in the kernels.
        accuracy: Share of images classified right, in [0, 1].
        delta: Accuracy minus that of the reference.
        ci95_low: Lower end of the paired 95 % interval of `delta`.
        ci95_high: Upper end.
        worst_class: The class that loses most.
        worst_class_drop: Loss of accuracy of that class.
        top1_agreement: Share of images for which it chooses the same class as the reference.
        max_abs_difference: Largest difference of a probability from the reference's.
        cpu_ms_b1_p50: CPU milliseconds per call at batch size 1, median.
        cpu_ms_b1_p95: 95th percentile.
        wall_ms_b1_p50: Wall milliseconds per call at batch size 1, median.
        wall_ms_b1_p95: 95th percentile.
        cpu_ms_b32_p50: CPU milliseconds per call at batch size 32, median.
        cpu_ms_b32_p95: 95th percentile.
        wall_ms_b32_p50: Wall milliseconds per call at batch size 32, median.
        wall_ms_b32_p95: 95th percentile.
        throughput: Images per second of CPU time at batch size 32.
        ratio: CPU time of the reference over that of the variant at batch size 1; above 1 is faster.
        ratio_b32: The same at batch size 32.
        contention: Wall over CPU time at batch size 1; above 1.3 the machine was too busy to trust wall times.
        rounds: Samples at batch size 1.
        gpu_delegate_ok: Whether TensorFlow Lite's GPU delegate takes the whole graph.
        flex_operations: Operations that only TensorFlow's Flex delegate runs.
        sha256: Checksum of the file, or of the list of its files.
    """

    variant: str
    technique: str
    form: str
    runtime: str
    status: Status
    reason: str = ""
    bytes: int | None = None
    gz_bytes: int | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    sparsity: float | None = None
    accuracy: float | None = None
    delta: float | None = None
    ci95_low: float | None = None
    ci95_high: float | None = None
    worst_class: str | None = None
    worst_class_drop: float | None = None
    top1_agreement: float | None = None
    max_abs_difference: float | None = None
    cpu_ms_b1_p50: float | None = None
    cpu_ms_b1_p95: float | None = None
    wall_ms_b1_p50: float | None = None
    wall_ms_b1_p95: float | None = None
    cpu_ms_b32_p50: float | None = None
    cpu_ms_b32_p95: float | None = None
    wall_ms_b32_p50: float | None = None
    wall_ms_b32_p95: float | None = None
    throughput: float | None = None
    ratio: float | None = None
    ratio_b32: float | None = None
    contention: float | None = None
    rounds: int | None = None
    gpu_delegate_ok: bool | None = None
    flex_operations: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        """Refuse values of another type, and numbers that are not finite."""
        for name, kinds in _KINDS.items():
            value = getattr(self, name)
            if not fits(value, kinds):
                raise ServingError(f"Row {self.variant!r}: {name} is {value!r}, expected {words(kinds)}.")
        if self.status not in get_args(Status):
            raise ServingError(
                f"Row {self.variant!r}: the status is {self.status!r}, expected one of {', '.join(get_args(Status))}."
            )
        if self.status != "ok" and not self.reason:
            raise ServingError(f"Row {self.variant!r} is {self.status} without a reason; expected one in words.")

    @property
    def ok(self) -> bool:
        """Whether it may ship."""
        return self.status == "ok"


_KINDS = kinds_of(Row, localns={"bytes": bytes})
COLUMNS: tuple[str, ...] = tuple(_KINDS)


def row_of(
    measurement: Measurement,
    technique: str,
    runtime: str,
    *,
    status: Status = "ok",
    reason: str = "",
    classes: Sequence[str] = (),
) -> Row:
    """Make the row of a measured variant.

    Args:
        measurement: What was measured; a failed one gives a failed row.
        technique: How it was trained further; empty if it was only converted.
        runtime: What executes it.
        status: The verdict, `ok` or `refused`.
        reason: Why, or what a reader should know; the measurement's own remark is added.
        classes: Names of the classes; without them `worst_class` is a number.

    Returns:
        The row.
    """
    common: dict[str, Any] = {
        "variant": measurement.variant,
        "technique": technique,
        "form": measurement.form,
        "runtime": runtime,
    }
    if not measurement.ok:
        return Row(**common, status="failed", reason=measurement.reason)
    return Row(
        **common,
        status=status,
        reason=" ".join(part for part in (reason, measurement.remark) if part),
        **_of_size(measurement),
        **_of_quality(measurement, classes),
        **_of_times(measurement),
    )


def _of_size(measurement: Measurement) -> dict[str, Any]:
    size, operations = measurement.size, measurement.operations
    found: dict[str, Any] = {}
    if size is not None:
        found.update(bytes=size.bytes, gz_bytes=size.gz_bytes, sha256=size.sha256)
    if operations is not None:
        names = ("parameters", "multiply_adds", "sparsity", "gpu_delegate_ok", "flex_operations")
        found.update({name: getattr(operations, name) for name in names})
    return found


def _of_quality(measurement: Measurement, classes: Sequence[str]) -> dict[str, Any]:
    found = measurement.report
    if found is None:
        return {}
    names = ("accuracy", "delta", "ci95_low", "ci95_high", "worst_class_drop", "top1_agreement", "max_abs_difference")
    worst = found.worst_class
    label = classes[worst] if worst < len(classes) else str(worst)
    return {**{name: getattr(found, name) for name in names}, "worst_class": label}


def _of_times(measurement: Measurement) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for batch, timing in measurement.timings.items():
        if batch not in (1, 32):
            continue
        for name in ("cpu_ms", "wall_ms"):
            for share in ("p50", "p95"):
                found[f"{name}_b{batch}_{share}"] = getattr(timing, f"{name}_{share}")
        if batch == 1:
            found.update(ratio=timing.ratio, contention=timing.contention, rounds=timing.rounds)
        else:
            found.update(ratio_b32=timing.ratio, throughput=timing.throughput)
    return found


def write_csv(rows: Iterable[Row], path: Path) -> Path:
    """Write the table as CSV (RFC 4180, UTF-8, header of column names); replaces the file as a whole.

    Raises:
        ServingError: Two rows have the same variant.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for row in _distinct(rows):
        writer.writerow([to_text(getattr(row, name)) for name in COLUMNS])
    return _write(path, stream.getvalue())


def read_csv(path: Path) -> list[Row]:
    """Read what `write_csv` wrote.

    Raises:
        ServingError: The file is missing, has other columns or a cell of another kind, or a variant comes twice.
    """
    # strict: a quote that is never closed would swallow the rest of the file.
    reader = csv.reader(io.StringIO(_read(path), newline=""), strict=True)
    try:
        lines = list(reader)
    except csv.Error as error:
        raise ServingError(f"{path}, line {reader.line_num}: {error}. Expected CSV as Slipway writes it.") from error
    if not lines or tuple(lines[0]) != COLUMNS:
        found = ", ".join(lines[0]) if lines else "nothing"
        raise ServingError(f"{path} has the columns {found}; expected {', '.join(COLUMNS)}.")
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(COLUMNS):
            raise ServingError(f"{path}, row {number}: {len(line)} cells, expected {len(COLUMNS)}.")
        values = {name: _value(f"{path}, row {number}", name, text) for name, text in zip(COLUMNS, line, strict=True)}
        rows.append(Row(**values))
    return _distinct(rows)


def write_json(rows: Iterable[Row], path: Path, about: Mapping[str, Any] | None = None) -> Path:
    """Write the table as JSON; replaces the file as a whole.

    Args:
        rows: The rows.
        path: The file.
        about: What else belongs to the table, JSON-able: the machine, the budget, the picks, the front.

    Raises:
        ServingError: Two rows have the same variant, or `about` holds something that JSON cannot.
    """
    content = {
        "schema": _SCHEMA,
        "about": dict(about or {}),
        "rows": [dataclasses.asdict(row) for row in _distinct(rows)],
    }
    try:
        return _write(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    except (TypeError, ValueError) as error:
        raise ServingError(f"What belongs to the table cannot be written as JSON: {error}.") from error


def read_json(path: Path) -> tuple[list[Row], dict[str, Any]]:
    """Read what `write_json` wrote: the rows, and what belongs to them.

    Raises:
        ServingError: The file is missing, no JSON, of another schema, or a row has other fields or values.
    """
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        raise ServingError(f"{path} is no JSON: {error}. It is truncated or was edited; measure again.") from error
    if not isinstance(content, dict) or set(content) != {"schema", "about", "rows"} or content["schema"] != _SCHEMA:
        raise ServingError(f"{path} is no results table of schema {_SCHEMA}; expected schema, about and rows.")
    if not isinstance(content["about"], dict) or not isinstance(content["rows"], list):
        raise ServingError(f"{path}: expected an object in about and a list in rows.")
    rows = []
    for number, values in enumerate(content["rows"]):
        if not isinstance(values, dict) or set(values) != set(COLUMNS):
            found = sorted(set(values) ^ set(COLUMNS)) if isinstance(values, dict) else type(values).__name__
            raise ServingError(f"{path}, row {number}: fields that are missing or unknown: {found}.")
        rows.append(Row(**values))
    return _distinct(rows), content["about"]


def _distinct(rows: Iterable[Row]) -> list[Row]:
    kept = list(rows)
    names = [row.variant for row in kept]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ServingError(f"The variant {twice[0]!r} has more than one row; expected one.")
    return kept


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_durably(path, text)
    return path


def _read(path: Path) -> str:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return stream.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ServingError(f"{path} cannot be read: {error}. Expected a results table.") from error


def _value(where: str, name: str, text: str) -> Any:
    try:
        return from_text(text, _KINDS[name])
    except ValueError as error:
        raise ServingError(f"{where}: {name} is {text!r}, expected {words(_KINDS[name])}.") from error
