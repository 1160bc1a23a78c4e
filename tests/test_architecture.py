"""The rules of the house that a machine can hold: who imports whom, what the small extras bring in."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("pipeline", "trainer", "transform", "serving")
TFX_FAMILY = (
    "tfx",
    "tfx_bsl",
    "apache_beam",
    "ml_metadata",
    "tensorflow_transform",
    "tensorflow_data_validation",
    "tensorflow_model_analysis",
)
HEAVY_DISTRIBUTIONS = {
    "tfx",
    "tfx-bsl",
    "ml-pipelines-sdk",
    "apache-beam",
    "ml-metadata",
    "tensorflow-transform",
    "tensorflow-data-validation",
    "tensorflow-model-analysis",
}
ALLOWED_ROOMS = {
    "pipeline": {"trainer", "transform", "serving"},
    "trainer": {"transform"},
    "transform": set(),
    "serving": set(),
}
# What may be imported in spite of the rule, file by file.
ALLOWED_TFX = {
    "transform/preprocessing.py": {"tensorflow_transform"},
    "trainer/run.py": {"tfx", "tensorflow_transform"},  # the adapter to TFX's FnArgs
}
# Some of what apache-beam[gcp] asks for; the override in pyproject.toml replaces it by plain apache-beam.
LEFT_OUT = {
    "cachetools",
    "google-apitools",
    "google-auth-httplib2",
    "proto-plus",
    "keyrings-google-artifactregistry-auth",
}
CORNERSTONES = {
    "tensorflow",
    "tfx",
    "tensorflow-transform",
    "tensorflow-data-validation",
    "tensorflow-model-analysis",
    "tensorflow-model-optimization",
    "tensorflow-serving-api",
    "keras-tuner",
}


def modules(*rooms: str) -> list[Path]:
    return sorted(path for room in rooms for path in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in it the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = ".".join(path.relative_to(ROOT).parts[: -node.level]) if node.level else ""
            yield ".".join(part for part in (package, node.module) if part)
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            names = (argument.value for argument in node.args[:1] if isinstance(argument, ast.Constant))
            yield from (name for name in names if isinstance(name, str))


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def short(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_lies_before_them(room: str) -> None:
    forbidden = set(ROOMS) - ALLOWED_ROOMS[room] - {room}
    found = {
        short(path): sorted(hits)
        for path in modules(room)
        if (hits := {name for name in imports(path) if name.partition(".")[0] in forbidden})
    }
    assert not found


@pytest.mark.parametrize("room", ["trainer", "transform", "serving"])
def test_tfx_and_beam_stay_in_the_pipeline(room: str) -> None:
    found = {}
    for path in modules(room):
        hits = {name.partition(".")[0] for name in imports(path)} & set(TFX_FAMILY)
        if hits - ALLOWED_TFX.get(short(path), set()):
            found[short(path)] = sorted(hits)
    assert not found


def test_the_import_rule_sees_imports_inside_functions_and_relative_ones(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "serving/sub/module.py"
    file.parent.mkdir(parents=True)
    text = "def f():\n    import tfx.v1\n    from .. import errors\n    importlib.import_module('pipeline.x')\n"
    file.write_text(text, encoding="utf-8")
    assert list(imports(file)) == ["tfx.v1", "serving", "pipeline.x"]


def test_keras_is_tf_keras_by_that_name() -> None:
    found = []
    for path in modules(*ROOMS):
        if any(name.partition(".")[0] == "keras" or name.startswith("tensorflow.keras") for name in imports(path)):
            found.append(short(path))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) in ("tf.keras", "tensorflow.keras"):
                found.append(short(path))
    assert not found


def project() -> dict:
    return tomli.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def requirements_of(name: str) -> list[str]:
    """What an installed distribution asks for; what the lock leaves out on purpose asks for nothing."""
    try:
        return importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        assert name in LEFT_OUT or name.startswith("google-cloud-"), f"{name} is required, but not installed"
        return []


def closure(extra: str) -> set[str]:
    """The distributions that an extra brings in, by pyproject.toml and the metadata of what is installed."""
    own = project()
    open_ends = [Requirement(text) for text in own["dependencies"] + own["optional-dependencies"][extra]]
    found: set[tuple[str, str]] = set()
    while open_ends:
        requirement = open_ends.pop()
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) in found:
                continue
            found.add((name, wanted))
            for inner in map(Requirement, requirements_of(name)):
                if inner.marker is None or inner.marker.evaluate({"extra": wanted}):
                    open_ends.append(inner)
    return {name for name, _ in found}


def test_the_small_extras_bring_in_no_tfx_beam_or_mlmd() -> None:
    serving, edge = closure("serving"), closure("edge")
    assert not serving & HEAVY_DISTRIBUTIONS
    assert not edge & HEAVY_DISTRIBUTIONS
    assert "tensorflow" in serving and "tensorflow-serving-api" in serving
    assert not {name for name in edge if name.startswith("tensorflow") or name in ("tf-keras", "keras")}


def test_the_walk_would_have_found_them() -> None:
    assert closure("pipeline") >= HEAVY_DISTRIBUTIONS


def test_the_packages_that_the_project_stands_on_are_named_exactly() -> None:
    named = {canonicalize_name(r.name): r for r in map(Requirement, project()["optional-dependencies"]["pipeline"])}
    assert set(named) >= CORNERSTONES
    assert all(str(named[name].specifier).startswith("==") for name in CORNERSTONES)


BLOCKER = """
import importlib.abc, importlib, sys
class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError(f"{{name}} is not part of this extra")
sys.meta_path.insert(0, Blocker())
for name in {modules!r}:
    importlib.import_module(name)
print("imported", len({modules!r}))
"""


@pytest.mark.slow
def test_serving_imports_without_tfx_beam_mlmd_and_the_other_rooms() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in modules("serving")]
    names = [name.removesuffix(".__init__") for name in names]
    blocked = (*TFX_FAMILY, "pipeline", "trainer", "transform")
    script = BLOCKER.format(blocked=blocked, modules=names)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"imported {len(names)}"


def written_files() -> list[Path]:
    """The files of the repository as git sees them: tracked, or new and not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git work tree")
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


# Spelled so that this file does not contain what it looks for.
FORBIDDEN = {
    "a path of one machine": re.compile(r"(?<![\w.])/(?:ro" r"ot|home/\w+|Users/\w+|wo" r"rk)/[\w.]+"),
    "a registry host": re.compile(r"py" r"pi\.org|python" r"hosted\.org|registry\.np" r"mjs\.org|deb\.deb" r"ian\.org"),
}


def test_no_file_names_a_registry_or_a_path_of_one_machine() -> None:
    found = []
    for path in written_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{short(path)}: {what}: {hit[0]}" for what, sign in FORBIDDEN.items() if (hit := sign.search(text))]
    assert not found


def test_the_lock_is_exact_and_every_entry_has_a_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    entries = re.split(r"^(?=[a-z0-9])", re.sub(r"^\s*#.*\n", "", text, flags=re.MULTILINE), flags=re.MULTILINE)
    entries = [entry for entry in entries if entry.strip()]
    assert len(entries) > 200
    for entry in entries:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+ \\\n", entry), entry[:60]
        assert "--hash=sha256:" in entry, entry[:60]


def test_the_lock_fits_pyproject() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {
        canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)
    }
    own = project()
    for group in (own["dependencies"], *own["optional-dependencies"].values()):
        for requirement in map(Requirement, group):
            name = canonicalize_name(requirement.name)
            assert name in locked, f"{name} is not locked; run `make lock`"
            assert requirement.specifier.contains(locked[name]), f"{name} {locked[name]} is locked; run `make lock`"
