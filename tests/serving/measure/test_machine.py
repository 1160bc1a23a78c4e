from __future__ import annotations

import json
from pathlib import Path

from serving.measure import machine

CPUINFO = """processor\t: 0
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu sse4_2 avx2 avx512_vnni amx_int8 smep

processor\t: 1
model name\t: Some CPU @ 2.00GHz
flags\t\t: fpu
"""


def test_cpu_flags_that_matter_and_versions(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(CPUINFO)
    found = machine.describe(2, tmp_path / "cpuinfo")
    assert found["cpu"] == "Some CPU @ 2.00GHz"
    assert found["cpu_flags"] == ["amx_int8", "avx2", "avx512_vnni", "sse4_2"]
    assert found["threads"] == 2 and found["cores"] >= 1
    assert "numpy" in found["versions"]
    assert json.loads(json.dumps(found)) == found


def test_a_system_without_cpuinfo_is_described_too(tmp_path: Path) -> None:
    found = machine.describe(1, tmp_path / "none")
    assert found["cpu"] and found["cpu_flags"] == []
