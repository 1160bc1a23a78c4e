"""TFDV's statistics and anomalies as rows of a table.

Comes in: the folders of StatisticsGen and ExampleValidator. Goes out: plain rows. Called by
`pipeline.report.gathering`; only the message types of TensorFlow Metadata are imported.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def features(folder: Path | None) -> list[dict[str, Any]]:
    """Return one row per split and feature.

    Args:
        folder: of the statistics artifact, or None.

    Returns:
        Rows with `split`, `feature`, `type`, `examples`, `missing`, and `range` or `values` in words.
    """
    from tensorflow_metadata.proto.v0 import statistics_pb2

    rows = []
    for path in _files(folder, "FeatureStats.pb"):
        message = statistics_pb2.DatasetFeatureStatisticsList()
        message.ParseFromString(path.read_bytes())
        for dataset in message.datasets:
            for feature in dataset.features:
                rows.append({"split": path.parent.name.removeprefix("Split-"), **_row(feature)})
    return rows


def _row(feature: Any) -> dict[str, Any]:
    from tensorflow_metadata.proto.v0 import statistics_pb2

    kind = feature.WhichOneof("stats")
    stats = getattr(feature, kind)
    row = {
        "feature": feature.name or ".".join(feature.path.step),
        "type": statistics_pb2.FeatureNameStatistics.Type.Name(feature.type).lower(),
        "examples": stats.common_stats.num_non_missing,
        "missing": stats.common_stats.num_missing,
    }
    if kind == "num_stats":
        return {**row, "values": f"{stats.min:g} to {stats.max:g}, mean {stats.mean:.4g}, median {stats.median:g}"}
    if kind == "string_stats":
        top = ", ".join(f"{value.value[:24]} ({value.frequency:,.0f})" for value in stats.top_values[:3])
        return {**row, "values": f"{stats.unique:,} different" + (f": {top} …" if top and stats.unique <= 100 else "")}
    return {**row, "values": f"{stats.avg_num_bytes:,.0f} bytes on average" if kind == "bytes_stats" else ""}


def anomalies(folder: Path | None) -> list[dict[str, str]]:
    """Return one row per anomaly: `split`, `feature`, `anomaly` in words."""
    from tensorflow_metadata.proto.v0 import anomalies_pb2

    rows = []
    for path in _files(folder, "SchemaDiff.pb"):
        message = anomalies_pb2.Anomalies()
        message.ParseFromString(path.read_bytes())
        for name, info in sorted(message.anomaly_info.items()):
            rows.append(
                {"split": path.parent.name.removeprefix("Split-"), "feature": name, "anomaly": info.description}
            )
    return rows


def _files(folder: Path | None, name: str) -> list[Path]:
    """Return the files of a name in the folders of the splits, in the order of the splits."""
    from transform.features import SPLITS

    found = [folder / f"Split-{split}" / name for split in SPLITS] if folder is not None else []
    return [path for path in found if path.is_file()]
