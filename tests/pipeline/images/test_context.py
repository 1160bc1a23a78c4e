"""Tests of the image's build context: the tools that read it, and its commands, as far as they run without Docker."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import ConfigError
from pipeline.fingerprint import git_commit
from pipeline.images.context import EXTRAS, write_context
from serving.errors import ServingError

IMAGE = "europe-west4-docker.pkg.dev/my-project/slipway/pipeline:1"
EXECUTOR = "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor"
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("image")
    module = tmp_path_factory.mktemp("mine") / "mine.py"
    module.write_text("MINE = 1\n", encoding="utf-8")
    write_context(folder, IMAGE, [module])
    return folder


def program(name: str) -> str:
    places = [str(Path(sys.executable).parent), str(ROOT / ".tools/uv/bin"), os.environ["PATH"]]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} is not installed; `make setup` installs it")
    return found


def instructions(context: Path) -> Iterator[tuple[str, str]]:
    """The Dockerfile's instructions and what follows them."""
    text = (context / "Dockerfile").read_text().replace("\\\n", " ")
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word and not word.startswith("#"):
            yield word, rest


def test_hadolint(context: Path) -> None:
    done = subprocess.run(
        [program("hadolint"), str(context / "Dockerfile")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout


def test_it_copies_what_is_there_and_nothing_else_is_sent(context: Path) -> None:
    copied = {
        source
        for word, rest in instructions(context)
        if word == "COPY" and "--from" not in rest
        for source in [part for part in rest.split() if not part.startswith("--")][:-1]
    }
    assert all((context / source).exists() for source in copied)
    sent = {line[1:] for line in (context / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert sent == copied >= {"requirements.lock", "pipeline", "modules", "uv.txt", "entrypoint.sh"}


def test_images_are_pinned_and_nobody_is_root(context: Path) -> None:
    stages = [rest.split()[0] for word, rest in instructions(context) if word == "FROM"]
    assert len(stages) == 3 and all(re.search(r":[a-z0-9][\w.-]*\d", stage) for stage in stages)
    # Workers of another version than the pipeline refuse to work together.
    assert f"apache/beam_python3.10_sdk:{metadata.version('apache-beam')}" in stages
    text = (context / "Dockerfile").read_text()
    assert "USER ${RUN_AS}" in text and "ARG RUN_AS=10001" in text and "--uid 10001" in text


def test_runs_in_the_container_know_their_commit(
    context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = git_commit(ROOT)
    variables = dict(rest.split("=", 1) for word, rest in instructions(context) if word == "ENV" and " " not in rest)
    assert variables == {"SLIPWAY_COMMIT": here}
    assert ("LABEL", f"org.opencontainers.image.revision={here}") in list(instructions(context))
    monkeypatch.setenv("SLIPWAY_COMMIT", variables["SLIPWAY_COMMIT"])
    assert git_commit(tmp_path) == here


def test_what_is_installed_is_locked(context: Path) -> None:
    installs = [rest for word, rest in instructions(context) if word == "RUN" and "install" in rest]
    assert "--require-hashes -r uv.txt" in installs[0] and "--hash=sha256:" in (context / "uv.txt").read_text()
    assert "--constraint requirements.lock -r pyproject.toml" in installs[1]
    assert [installs[1].split()[i + 1] for i, word in enumerate(installs[1].split()) if word == "--extra"] == [*EXTRAS]
    # Without resolving anything anew, the build backend included.
    assert "--no-deps --no-build-isolation" in installs[2]
    assert all("--compile-bytecode" in line for line in installs[1:])


@pytest.mark.slow
def test_the_project_installs_from_the_folder_alone_and_its_entry_points_start(context: Path, tmp_path: Path) -> None:
    source, installed = tmp_path / "src", tmp_path / "installed"
    shutil.copytree(context, source)
    last = next(shlex.split(rest) for word, rest in instructions(context) if word == "RUN" and "--no-deps" in rest)
    options = [word for word in last[last.index("install") + 1 : -1] if word != "--no-cache"]
    command = [program("uv"), "pip", "install", "--offline", "--python", sys.executable, "--target", str(installed)]
    done = subprocess.run([*command, *options, "."], cwd=source, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    packed = {p.relative_to(context) for room in ("pipeline", "serving") for p in (context / room).rglob("*.*")}
    assert [path for path in packed if not (installed / path).exists()] == []
    assert list(installed.glob("pipeline/images/__pycache__/context.*.pyc"))
    environment = {**os.environ, "PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1"}
    code = "import pipeline, trainer.run, sys; print(pipeline.__file__)"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith(str(installed)), done.stderr
    for module in (
        "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor",
        "pipeline.runners.vertex.entrypoint",
    ):
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", module, "--help"], cwd=tmp_path, env=environment,
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode in (0, 1), done.stderr  # absl ends its help with 1
        assert "--executor_class_path" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "started"),
    [
        ([], "slipway --help"),
        (["--help"], "slipway --help"),
        (["run-node", "Trainer", "--run-id", "a b"], "slipway run-node Trainer --run-id a b"),
        (["--id=1", "--provision_endpoint=h:1"], "boot --id=1 --provision_endpoint=h:1"),
    ],
)
def test_the_entry_point_tells_workers_from_commands(
    context: Path, tmp_path: Path, words: list[str], started: str
) -> None:
    for name in ("slipway", "boot"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n', encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    script = (context / "entrypoint.sh").read_text()
    assert "exec /opt/apache/beam/boot" in script
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    here = script.replace("/opt/apache/beam/boot", str(tmp_path / "boot"))
    done = subprocess.run(["sh", "-c", here, "entrypoint", *words], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, started), done.stderr


def test_cloud_build_builds_tries_and_then_pushes(context: Path) -> None:
    content = YAML(typ="safe", pure=True).load((context / "cloudbuild.yaml").read_text())
    first, *checks = content["steps"]
    assert first["id"] == "build" and first["args"] == ["build", "--tag", "$_IMAGE", "."]
    assert len(checks) >= 4 and all(step["waitFor"] == ["build"] for step in checks)
    assert all(step["args"][:2] == ["run", "--rm"] and "$_IMAGE" in step["args"] for step in checks)
    assert any(EXECUTOR in step["args"] for step in checks)
    assert len({step["id"] for step in content["steps"]}) == len(content["steps"])
    assert content["images"] == ["$_IMAGE"] and content["substitutions"] == {"_IMAGE": IMAGE}
    # A variable of Cloud Build that nobody defines fails the build.
    used = set(re.findall(r"\$\{?(\w+)", (context / "cloudbuild.yaml").read_text()))
    assert used == {"_IMAGE"}


def test_twice_writes_nothing_new_and_what_somebody_changed_stays(context: Path, tmp_path: Path) -> None:
    folder, clone = tmp_path / "image", tmp_path / "clone"
    for copy in (folder, clone):
        shutil.copytree(context, copy)
    (clone / "scripts/environment").mkdir(parents=True)
    (clone / "uv.txt").rename(clone / "scripts/environment/uv.txt")
    again = write_context(folder, IMAGE, root=clone)
    assert again.removed == ("modules/mine.py",)
    assert set(again.written) == {"Dockerfile", ".dockerignore"}
    (folder / "Dockerfile").write_text("FROM scratch\n", encoding="utf-8")
    with pytest.raises(ServingError, match=r"Dockerfile in .* was changed since"):
        write_context(folder, IMAGE, root=clone)
    assert write_context(folder, IMAGE, force=True, root=clone).written == ("Dockerfile",)


@pytest.mark.parametrize("name", ["", "pipeline", "Pipeline:1", "a b:1", "a:", "-a:1", "a//b:1", "$PROJECT/a:1"])
def test_names_that_no_registry_takes(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="expected a name in small letters with a tag"):
        write_context(tmp_path / "image", name)
    assert not (tmp_path / "image").exists()


def test_without_a_clone_or_with_unreadable_modules(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no pyproject\.toml, .*expected a clone"):
        write_context(tmp_path / "image", IMAGE, root=tmp_path)
    with pytest.raises(ConfigError, match=r"mine\.py can't be read"):
        write_context(tmp_path / "image", IMAGE, [tmp_path / "mine.py"])
    with pytest.raises(ConfigError, match="two modules have the same file name"):
        for folder in ("a", "b"):
            (tmp_path / folder).mkdir()
            (tmp_path / folder / "m.py").touch()
        write_context(tmp_path / "image", IMAGE, [tmp_path / "a/m.py", tmp_path / "b/m.py"])
