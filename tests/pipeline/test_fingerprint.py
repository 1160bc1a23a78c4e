"""Hashes of code and config, on small source trees."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import fingerprint
from pipeline.config import Config, load
from pipeline.fingerprint import (
    changed_modules,
    code_fingerprint,
    code_hashes,
    config_fingerprint,
    git_commit,
)

SOURCES = {
    "trainer/__init__.py": "",
    "trainer/run.py": '"""Run."""\nimport os\nfrom trainer.loop import fit\nfrom . import late_user\n',
    "trainer/loop.py": (
        "def fit():\n    if os: import transform.images as im; from transform import (  # why (\n        size,\n    )\n"
    ),
    "trainer/late_user.py": "from .deep.inner import x\nfrom ..outside import y\n",
    "trainer/deep/__init__.py": "from .base import z\n",
    "trainer/deep/inner.py": "import numpy.linalg\n",
    "trainer/deep/base.py": "",
    "trainer/unused.py": "import serving\n",
    "transform/__init__.py": "",
    "transform/images.py": "raise RuntimeError('imported')\n",
    "transform/size.py": "from transform import images\n",
    "serving/__init__.py": "",
    "numpy/__init__.py": "",
}
IMPORTS = (ast.Import, ast.ImportFrom)
CLOSURE = {
    "trainer",
    "trainer.run",
    "trainer.loop",
    "trainer.late_user",
    "trainer.deep",
    "trainer.deep.inner",
    "trainer.deep.base",
    "transform",
    "transform.images",
    "transform.size",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a folder with small first-party packages."""
    place = tmp_path / "checkout"
    for name, text in SOURCES.items():
        file = place / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return place


def of(root: Path, *extra: Path) -> str:
    """Return the fingerprint of `trainer.run` below a root."""
    return code_fingerprint(["trainer.run"], extra, root=root)


def test_the_closure_follows_every_kind_of_import_and_imports_nothing(root: Path) -> None:
    assert set(code_hashes(["trainer.run"], root=root)) == CLOSURE


@pytest.mark.parametrize("module", sorted(CLOSURE))
def test_a_change_of_any_module_in_the_closure_changes_it(root: Path, module: str) -> None:
    before, hashes = of(root), code_hashes(["trainer.run"], root=root)
    place = root.joinpath(*module.split("."))
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    file.write_text(file.read_text() + "\n# a remark\n")
    assert of(root) != before
    assert changed_modules(hashes, code_hashes(["trainer.run"], root=root)) == [f"{module} changed"]


@pytest.mark.parametrize("name", ["trainer/unused.py", "serving/__init__.py", "numpy/__init__.py", "notes.txt"])
def test_a_change_outside_of_the_closure_does_not(root: Path, name: str) -> None:
    before = of(root)
    (root / name).write_text("x = 2\n")
    assert of(root) == before


def test_times_and_place_of_the_checkout_do_not_matter(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    shutil.copytree(root, other)
    for file in other.rglob("*.py"):
        os.utime(file, (1, 1))
    assert of(other) == of(root)


def test_the_order_of_entries_and_files_does_not_matter(root: Path, tmp_path: Path) -> None:
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for file in files:
        file.write_text(file.name)
    forward = code_fingerprint(["trainer.run", "serving"], files, root=root)
    assert forward == code_fingerprint(["serving", "trainer.run"], files[::-1], root=root)
    assert forward != code_fingerprint(["trainer.run"], files, root=root)


def test_imports_for_type_checkers_alone_do_not_count(root: Path) -> None:
    block = "if TYPE_CHECKING:\n    from trainer import unused\n\n    import serving\n\n"
    source = f"from typing import TYPE_CHECKING\n{block}x = 1\nfrom trainer import loop\n"
    (root / "trainer" / "run.py").write_text(source, encoding="utf-8")
    hashes = code_hashes(["trainer.run"], root=root)
    assert "trainer.loop" in hashes
    assert not {"trainer.unused", "serving"} & hashes.keys()


def test_a_cycle_of_imports_ends(root: Path) -> None:
    (root / "transform/images.py").write_text("import trainer.run\n")
    assert "transform.images" in code_hashes(["trainer.run"], root=root)


def test_a_module_with_a_syntax_error_is_hashed_like_any_other(root: Path) -> None:
    (root / "trainer/loop.py").write_text("def fit(:\nfrom transform import images\n")
    assert "transform.images" in code_hashes(["trainer.run"], root=root)


def test_a_new_and_a_lost_module_are_named() -> None:
    old, new = {"a": "1", "b": "1", "c": "1"}, {"b": "2", "c": "1", "d": "1"}
    assert changed_modules(old, new) == ["a is gone", "b changed", "d is new"]
    assert changed_modules(old, old) == []


def test_an_entry_without_a_source_is_an_error(root: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"'trainer\.rum' has no source file"):
        code_fingerprint(["trainer.rum"], root=root)
    with pytest.raises(ModuleNotFoundError, match="'numpy'"):
        code_fingerprint(["numpy"], root=root)


def test_user_files_count_with_the_modules_beside_them(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "user"
    folder.mkdir()
    module = folder / "models.py"
    module.write_text("import blocks\nfrom serving import x\nimport json\n")
    (folder / "blocks.py").write_text("WIDTH = 1\n")
    (folder / "json_notes.py").write_text("")
    before, hashes = of(root, module), code_hashes(["trainer.run"], [module], root=root)
    assert set(hashes) == CLOSURE | {"file models.py", "file blocks.py", "serving"}
    (folder / "blocks.py").write_text("WIDTH = 2\n")
    assert of(root, module) != before
    after = code_hashes(["trainer.run"], [module], root=root)
    assert changed_modules(hashes, after) == ["file blocks.py changed"]


def test_the_place_of_a_user_file_does_not_matter(root: Path, tmp_path: Path) -> None:
    places = [tmp_path / "one" / "m.py", tmp_path / "two" / "m.py"]
    for place in places:
        place.parent.mkdir()
        place.write_text("x = 1\n")
    assert of(root, places[0]) == of(root, places[1])
    places[1].write_text("x = 2\n")
    assert of(root, *places) == of(root, *places[::-1]) != of(root, places[0])


def test_a_missing_user_file_is_an_error(root: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        of(root, tmp_path / "none.py")


def test_our_own_sources_are_covered() -> None:
    hashes = code_hashes(["pipeline.config.loading"])
    assert {"pipeline", "pipeline.config.yaml_tree", "trainer.settings", "transform.settings"} <= set(hashes)
    assert "pipeline.fingerprint" not in hashes


@pytest.mark.parametrize("file", ["argparse.py", "typing.py", "asyncio/base_events.py", "ssl.py"])
def test_no_import_statement_is_missed_in_real_sources(file: str) -> None:
    source = (Path(os.__file__).parent / file).read_text(encoding="utf-8")
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, IMPORTS)]
    assert nodes
    assert {ast.dump(node) for node in nodes} <= {ast.dump(node) for node in fingerprint._import_statements(source)}


@pytest.mark.parametrize(
    "statement",
    [
        "import transform.size",
        "from transform import size",
        "from transform import size as s, nothing",
        "from transform import *; import transform.size",
        "from \\\n  transform import \\\n  size",
        "from transform import (\n    # )\n    size,\n)",
        "import os, transform.size",
        "try: import transform.size\nexcept ImportError: pass",
        "class A:\n  async def f():\n    while True:\n      with x:\n        from transform import size",
        "match x:\n    case 1:\n        import transform.size",
        "x = 1; from transform import size",
        "if x: \\\n  import transform.size",
        "from transform.size import (a,\n\n\n  b)",
        "\tfrom\ttransform\timport\tsize",
    ],
)
def test_spellings_of_an_import(root: Path, statement: str) -> None:
    (root / "trainer/unused.py").write_text(f"'''Text.'''\n{statement}\n")
    assert "transform.size" in code_hashes(["trainer.unused"], root=root)


@given(st.text())
def test_any_text_can_be_searched_for_imports(text: str) -> None:
    assert all(isinstance(node, IMPORTS) for node in fingerprint._import_statements(text))


MINIMAL = "name: demo\ndata: {source: digits}\ntransform: {size: [8, 8]}\n"


def config(tmp_path: Path, *overrides: str) -> Config:
    """Return a config with overrides."""
    file = tmp_path / "my.yaml"
    file.write_text(MINIMAL)
    return load(file, overrides).config


def test_a_config_hash_sees_the_keys_it_is_about_and_no_others(tmp_path: Path) -> None:
    keys = ["train", "data.split.seed", "evaluate.gates"]
    before = config_fingerprint(config(tmp_path), keys)
    others = config(tmp_path, "name=other", "tune.trials=3", "data.split.stratify=false")
    assert config_fingerprint(others, keys) == before
    assert config_fingerprint(config(tmp_path), keys[::-1]) == before
    for override in ("train.epochs=99", "data.split.seed=8", "evaluate.gates.accuracy.min=0.5"):
        assert config_fingerprint(config(tmp_path, override), keys) != before


def test_an_explicit_default_hashes_like_a_silent_one(tmp_path: Path) -> None:
    epochs = config(tmp_path).train.epochs
    silent, explicit = config(tmp_path), config(tmp_path, f"train.epochs={epochs}")
    assert config_fingerprint(silent, ["train"]) == config_fingerprint(explicit, ["train"])


def test_a_hash_is_the_same_in_another_process(tmp_path: Path) -> None:
    here = config_fingerprint(config(tmp_path), ["train", "data.kind"])
    code = (
        "from pipeline.config import load; from pipeline.fingerprint import config_fingerprint as f; "
        f"print(f(load({str(tmp_path / 'my.yaml')!r}).config, ['data.kind', 'train']))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=fingerprint.ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == here


def test_a_key_that_leads_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AttributeError, match="epoch"):
        config_fingerprint(config(tmp_path), ["train.epoch"])


def git(folder: Path, *words: str) -> None:
    """Run git in a folder with a fixed identity."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *words], check=True, capture_output=True)


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@needs_git
def test_a_commit_and_its_dirty_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tmp_path, "init")
    assert git_commit(tmp_path) == "unknown"
    (tmp_path / "a").write_text("1")
    git(tmp_path, "add", "a")
    git(tmp_path, "commit", "-m", "one")
    git(tmp_path, "tag", "-a", "v1", "-m", "tag")
    clean = git_commit(tmp_path)
    assert len(clean) == 40 and set(clean) <= set("0123456789abcdef")
    (tmp_path / "untracked").write_text("2")
    assert git_commit(tmp_path) == clean
    (tmp_path / "a").write_text("2")
    assert git_commit(tmp_path) == f"{clean}-dirty"
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert git_commit(tmp_path) == f"{clean}-dirty"


def test_outside_of_a_checkout_or_without_git_the_commit_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert git_commit(tmp_path) == "unknown"
    assert git_commit(tmp_path / "none") == "unknown"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(fingerprint.ROOT) == "unknown"
    monkeypatch.setenv("SLIPWAY_COMMIT", "a" * 40)
    assert git_commit(tmp_path) == git_commit(fingerprint.ROOT) == "a" * 40
