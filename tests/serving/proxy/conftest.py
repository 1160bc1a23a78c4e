"""Fixtures of the tests of the proxy."""

from tests.serving.traffic.conftest import published, state_dir

__all__ = ["published", "state_dir"]
