"""Made-up runs that the tests of the report share."""

from __future__ import annotations

import pytest

from tests.pipeline.report.made_up import MadeUp


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> MadeUp:
    return MadeUp(tmp_path_factory.mktemp("report") / "work")
