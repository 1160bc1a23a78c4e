"""Drift: does the served model still see what it was trained on? Requests and training data in, a verdict out."""

from pipeline.continuous.drift.comparing import Check
from pipeline.continuous.drift.report import DriftReport, compare_requests

__all__ = ["Check", "DriftReport", "compare_requests"]
