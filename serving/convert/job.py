"""A conversion to do and what came of it, as plain data that crosses the border of a process.

Written and read as strict JSON by `serving.convert.running` and `serving.convert.worker`; passed to every
converter.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from serving.errors import ConversionError

Status = Literal["ok", "skipped", "failed"]
_STATUSES = ("ok", "skipped", "failed")


@dataclass(frozen=True)
class Conversion:
    """One conversion to do.

    Attributes:
        form: Name of the form to make.
        saved_model: Directory of the source model.
        out_dir: Directory that gets the form's file; made if missing.
        representative: File of sample images (`ImageBatches.save`), for forms that are calibrated.
        signature: Signature of the source to convert; None chooses.
        keep_float: Names of operations that mixed precision must leave in floats.
        options: What else a converter takes, JSON-able; each converter documents its own.
    """

    form: str
    saved_model: Path
    out_dir: Path
    representative: Path | None = None
    signature: str | None = None
    keep_float: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write as JSON.

        Raises:
            ConversionError: `options` holds something that JSON cannot.
        """
        return _dump(
            {
                "form": self.form,
                "saved_model": str(self.saved_model),
                "out_dir": str(self.out_dir),
                "representative": None if self.representative is None else str(self.representative),
                "signature": self.signature,
                "keep_float": list(self.keep_float),
                "options": dict(self.options),
            },
            "the options of a conversion",
        )

    @classmethod
    def from_json(cls, text: str) -> Conversion:
        """Read what `to_json` wrote.

        Raises:
            ConversionError: The text is no JSON or has other fields or types.
        """
        data = _load(text, _CONVERSION_FIELDS, "conversion")
        representative = data["representative"]
        return cls(
            form=data["form"],
            saved_model=Path(data["saved_model"]),
            out_dir=Path(data["out_dir"]),
            representative=None if representative is None else Path(representative),
            signature=data["signature"],
            keep_float=tuple(data["keep_float"]),
            options=data["options"],
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a conversion.

    Attributes:
        form: Name of the form.
        status: `ok`, `skipped` (this machine lacks what the form needs) or `failed`.
        reason: Why not, in words; empty if ok.
        path: The file or directory that was made; None unless ok.
        seconds: Wall time.
        details: What the converter tells about its work, JSON-able.
    """

    form: str
    status: Status
    reason: str
    path: Path | None
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there is a converted model."""
        return self.status == "ok"

    def to_json(self) -> str:
        """Write as JSON.

        Raises:
            ConversionError: `details` holds something that JSON cannot.
        """
        return _dump(
            {
                "form": self.form,
                "status": self.status,
                "reason": self.reason,
                "path": None if self.path is None else str(self.path),
                "seconds": self.seconds,
                "details": self.details,
            },
            "the details of an outcome",
        )

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """Read what `to_json` wrote.

        Raises:
            ConversionError: The text is no JSON, has other fields or types, or contradicts itself.
        """
        data = _load(text, _OUTCOME_FIELDS, "outcome")
        status, reason, path = data["status"], data["reason"], data["path"]
        if status not in _STATUSES:
            raise ConversionError(f"an outcome has the status {status!r}; expected one of {', '.join(_STATUSES)}.")
        if (status == "ok") != (path is not None) or (status == "ok") == bool(reason):
            raise ConversionError(
                f"an outcome with the status {status} has the path {path!r} and the reason {reason!r}; expected a "
                "path and no reason if ok, else a reason and no path."
            )
        return cls(
            form=data["form"],
            status=cast(Status, status),
            reason=reason,
            path=None if path is None else Path(path),
            seconds=float(data["seconds"]),
            details=data["details"],
        )


def _is(*kinds: type) -> Callable[[Any], bool]:
    # bool is an int to isinstance, but never what a field here holds.
    return lambda value: isinstance(value, kinds) and not isinstance(value, bool)


def _is_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_seconds(value: Any) -> bool:
    return _is(int, float)(value) and math.isfinite(value) and value >= 0


_CONVERSION_FIELDS: dict[str, Callable[[Any], bool]] = {
    "form": _is(str),
    "saved_model": _is(str),
    "out_dir": _is(str),
    "representative": _is(str, type(None)),
    "signature": _is(str, type(None)),
    "keep_float": _is_names,
    "options": _is(dict),
}
_OUTCOME_FIELDS: dict[str, Callable[[Any], bool]] = {
    "form": _is(str),
    "status": _is(str),
    "reason": _is(str),
    "path": _is(str, type(None)),
    "seconds": _is_seconds,
    "details": _is(dict),
}


def _dump(data: dict[str, Any], what: str) -> str:
    try:
        return json.dumps(data, indent=2, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConversionError(f"{what} cannot be written as JSON: {error}. Expected plain, finite values.") from error


def _load(text: str, fields: Mapping[str, Callable[[Any], bool]], what: str) -> dict[str, Any]:
    try:
        data = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise ConversionError(f"a record of a {what} is no JSON: {error}.") from error
    if not isinstance(data, dict) or set(data) != set(fields):
        found = sorted(data) if isinstance(data, dict) else type(data).__name__
        raise ConversionError(f"a record of a {what} has {found}; expected exactly {sorted(fields)}.")
    wrong = [name for name, holds in fields.items() if not holds(data[name])]
    if wrong:
        raise ConversionError(f"a record of a {what} has {wrong[0]} {data[wrong[0]]!r}, which is of another kind.")
    return data


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")
