"""Airflow: what writes the DAG of a pipeline, and what starts a run of it."""

from __future__ import annotations

from pipeline.runners.airflow.compiling import compile_airflow
from pipeline.runners.airflow.submitting import submit

__all__ = ["compile_airflow", "submit"]
