"""What other tools make of the project: the sdist that Beam, Dataflow and Vertex build through setup.py."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("pipeline", "trainer", "transform", "serving")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packed, so that nothing is written into the work tree."""
    source = tmp_path_factory.mktemp("source")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    return source


@pytest.fixture(scope="module")
def sdist(source: Path) -> tarfile.TarFile:
    """The source distribution."""
    built = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "sdist"],
        cwd=source,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (archive,) = (source / "dist").glob("tfx_slipway-*.tar.gz")
    return tarfile.open(archive)


def test_setup_py_packs_all_four_packages_completely(sdist: tarfile.TarFile, source: Path) -> None:
    packed = {name.partition("/")[2] for name in sdist.getnames()}
    for package in PACKAGES:
        files = {path.relative_to(source).as_posix() for path in (source / package).rglob("*") if path.is_file()}
        assert files and files <= packed


def test_tests_are_not_installed_with_it(sdist: tarfile.TarFile) -> None:
    (top_level,) = (name for name in sdist.getnames() if name.endswith(".egg-info/top_level.txt"))
    content = sdist.extractfile(top_level)
    assert content is not None
    assert sorted(content.read().decode().split()) == sorted(PACKAGES)


def test_metadata_pins_beam_and_offers_the_extras(sdist: tarfile.TarFile) -> None:
    (info,) = (name for name in sdist.getnames() if name.count("/") == 1 and name.endswith("/PKG-INFO"))
    content = sdist.extractfile(info)
    assert content is not None
    lines = content.read().decode().splitlines()
    assert {f"Provides-Extra: {extra}" for extra in ("pipeline", "serving", "edge", "dev")} <= set(lines)
    assert any(line.startswith("Requires-Dist: apache-beam==2.59.0") for line in lines)
