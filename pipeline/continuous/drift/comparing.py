"""Distances between two samples, by the drift comparators of TensorFlow Data Validation.

Rows of numbers or names come in, one check per column goes out. Numbers are compared by the Jensen-Shannon divergence
of their histograms (0: equal, 1: disjoint), names by the largest change of one name's share (L-infinity distance).
Source: B. Fuglede, F. Topsoe, Jensen-Shannon divergence and Hilbert space embedding, ISIT 2004.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

JENSEN_SHANNON = "Jensen-Shannon"
L_INFINITY = "L-infinity"

Column = Sequence[float] | Sequence[str]


@dataclass(frozen=True)
class Check:
    """One property compared.

    Attributes:
        name: of the property.
        distance: which one.
        value: how large it is.
        threshold: from which value on it is drift.
        samples: size of the sample of requests.
        reference_samples: size of the sample of training data.
        requests: what the requests are like: mean and standard deviation, or the most frequent names.
        reference: the same of the training data.
        passed: whether the value is at most the threshold.
    """

    name: str
    distance: str
    value: float
    threshold: float
    samples: int
    reference_samples: int
    requests: str
    reference: str
    passed: bool


def compare(
    requests: Mapping[str, Column], reference: Mapping[str, Column], thresholds: Mapping[str, float]
) -> list[Check]:
    """Compare columns of the same names.

    Args:
        requests: values of each property; the columns are equally long and not empty.
        reference: the same of the training data.
        thresholds: by property.
    """
    import tensorflow_data_validation as tfdv
    from tensorflow_metadata.proto.v0 import schema_pb2

    schema = schema_pb2.Schema()
    for name in requests:
        feature = schema.feature.add(name=name)
        if _is_text(reference[name]):
            feature.type = schema_pb2.BYTES
            feature.drift_comparator.infinity_norm.threshold = thresholds[name]
        else:
            feature.type = schema_pb2.FLOAT
            feature.drift_comparator.jensen_shannon_divergence.threshold = thresholds[name]
    anomalies = tfdv.validate_statistics(_statistics(requests), schema, previous_statistics=_statistics(reference))
    values = {info.path.step[0]: info.drift_measurements[0].value for info in anomalies.drift_skew_info}
    return [_check(name, values[name], thresholds[name], requests[name], reference[name]) for name in requests]


def _statistics(columns: Mapping[str, Column]) -> Any:
    import pandas
    import tensorflow_data_validation as tfdv

    kinds = {name: object if _is_text(values) else float for name, values in columns.items()}
    frame = pandas.DataFrame({name: pandas.Series(list(columns[name]), dtype=kinds[name]) for name in columns})
    return tfdv.generate_statistics_from_dataframe(frame, n_jobs=1)


def _check(name: str, value: float, threshold: float, requests: Column, reference: Column) -> Check:
    return Check(
        name,
        L_INFINITY if _is_text(reference) else JENSEN_SHANNON,
        float(value),
        threshold,
        len(requests),
        len(reference),
        _summary(requests),
        _summary(reference),
        float(value) <= threshold,
    )


def _is_text(column: Column) -> bool:
    return isinstance(column[0], str)


def _summary(column: Column) -> str:
    """Return what a column is like, in a few words."""
    import statistics
    from collections import Counter

    if _is_text(column):
        shares = Counter(column).most_common(3)
        return ", ".join(f"{name} {count / len(column):.0%}" for name, count in shares)
    numbers = [float(value) for value in column]
    return f"{statistics.fmean(numbers):.3g} ± {statistics.pstdev(numbers):.2g}"
