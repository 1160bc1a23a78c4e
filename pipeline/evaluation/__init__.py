"""Judging a model: mergeable counts, the metrics derived from them, TFMA's thresholds and the verdict."""
