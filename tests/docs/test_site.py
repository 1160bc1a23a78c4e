"""The documentation as a site: it builds without a warning, links and references included, and needs no network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LOADED = re.compile(
    r"""<(?:script|img|iframe)[^>]*\ssrc="(https?:[^"]+)|<link[^>]*rel="(?:stylesheet|preload|preconnect)"[^>]*href="(https?:[^"]+)"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(target)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, "\n".join(line for line in done.stderr.splitlines() if "WARN" in line or "ERR" in line)
    return target


@pytest.mark.slow
def test_every_setting_has_a_row(site: Path):
    page = (site / "reference" / "configuration.html").read_text(encoding="utf-8")
    for key in ("data.source", "train.epochs", "compress.budget.max_accuracy_drop", "push.keep"):
        assert f"<code>{key}</code>" in page


@pytest.mark.slow
def test_every_command_has_a_heading(site: Path):
    page = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for command in ("slipway run", "slipway canary start", "slipway config show", "slipway report"):
        assert re.search(rf">{command}<", page)


@pytest.mark.slow
def test_docstrings_are_in_it(site: Path):
    page = (site / "reference" / "api.html").read_text(encoding="utf-8")
    assert "Run a pipeline." in page and "pipeline.running.run_pipeline" in page


@pytest.mark.slow
def test_no_page_loads_anything_from_elsewhere(site: Path):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    outside = {match.group(0)[:120] for page in pages for match in LOADED.finditer(page.read_text(encoding="utf-8"))}
    assert outside == set()
