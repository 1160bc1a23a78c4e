"""The build context of the pipeline's image.

Comes in: the image's name, and files of models that users wrote. Goes out: a folder with the Dockerfile, what it copies
(this project's packages, the lock, the hashes of the installer), `.dockerignore` and `cloudbuild.yaml`. Called by
`slipway image`. The folder needs nothing beside it: it can be sent to a build service as it is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib import metadata, resources
from pathlib import Path

from pipeline.errors import ConfigError
from pipeline.fingerprint import COMMIT_VARIABLE, git_commit
from serving.deploy.generating import Generated, write_files

ROOMS = ("pipeline", "trainer", "transform", "serving")
EXTRAS = ("pipeline", "vertex", "convert")
"""What stages need: TFX, the runner of Vertex AI and Kubeflow, forms for other runtimes."""

RECORD = ".slipway-image.json"

_ROOT = Path(__file__).resolve().parents[2]
# Path in the folder, path in a clone.
_BESIDE = {
    "pyproject.toml": "pyproject.toml",
    "setup.py": "setup.py",
    "requirements.lock": "requirements.lock",
    "README.md": "README.md",
    "LICENSE": "LICENSE",
    "uv.txt": "scripts/environment/uv.txt",
}
_TEMPLATES = {
    "Dockerfile.j2": "Dockerfile",
    "entrypoint.sh.j2": "entrypoint.sh",
    "cloudbuild.yaml.j2": "cloudbuild.yaml",
    "dockerignore.j2": ".dockerignore",
}
_PART = r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?"
_IMAGE = re.compile(rf"{_PART}(:[0-9]+)?(/{_PART})*:[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}}")

# What each check gives to `docker run`, after the options.
_CHECKS = {
    "command": ["--help"],
    "tfx": ["-m", "tfx.orchestration.kubeflow.v2.container.kubeflow_v2_run_executor", "--help"],
    "stage": ["-m", "pipeline.runners.vertex.entrypoint", "--help"],
    "training": ["-c", "import trainer.run, pipeline.graph"],
    "bytecode": ["-c", "import pathlib, tfx; assert pathlib.Path(tfx.__cached__).is_file(), tfx.__cached__"],
}


def write_context(
    out_dir: Path, image: str, modules: Sequence[Path] = (), *, force: bool = False, root: Path = _ROOT
) -> Generated:
    """Write the build context.

    Args:
        out_dir: the folder; made if missing, and never emptied.
        image: name and tag of the image, as registries know it.
        modules: `.py` files with models of the user's own (`model.module`); the image has them in `/modules`.
        force: overwrite files that were changed by hand.
        root: the clone of the project.

    Returns:
        What was written, what was as it should be, and what was removed.

    Raises:
        ConfigError: the name is none, a module can't be read, or the project isn't installed from a clone.
        ServingError: the folder can't be written, or holds files of somebody else.
    """
    if not _IMAGE.fullmatch(image):
        raise ConfigError(
            f"the image is called {image!r}; expected a name in small letters with a tag, such as "
            "europe-west4-docker.pkg.dev/my-project/slipway/pipeline:1"
        )
    own = {f"modules/{path.name}": _read(path) for path in modules}
    if len(own) < len(modules):
        raise ConfigError(f"two modules have the same file name: {', '.join(map(str, modules))}; rename one")
    files = {**_sources(root), **own}
    return write_files(out_dir, {**files, **_rendered(image, files, git_commit(root))}, record=RECORD, force=force)


def _sources(root: Path) -> dict[str, str]:
    """Return this project's files by their path in the folder."""
    missing = [name for name in _BESIDE.values() if not (root / name).is_file()]
    if missing:
        raise ConfigError(
            f"{root} has no {', '.join(missing)}; expected a clone of the project, whose lock says what the image "
            "installs; clone it and run the command there"
        )
    files = {name: _read(root / source) for name, source in _BESIDE.items()}
    for room in ROOMS:
        for folder, folders, names in os.walk(root / room):
            folders[:] = sorted(name for name in folders if name != "__pycache__" and not name.startswith("."))
            for path in (Path(folder, name) for name in sorted(names)):
                if path.suffix != ".pyc" and not path.name.startswith("."):
                    files[path.relative_to(root).as_posix()] = _read(path)
    return files


def _rendered(image: str, files: dict[str, str], commit: str) -> dict[str, str]:
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
        variable_start_string="@{", variable_end_string="}@", block_start_string="<%", block_end_string="%>",
        comment_start_string="<#", comment_end_string="#>", autoescape=False,
    )  # fmt: skip
    modules = any(name.startswith("modules/") for name in files)
    values = {
        "image": image,
        "extras": "".join(f" --extra {extra}" for extra in EXTRAS),
        "beam": metadata.version("apache-beam"),
        "modules": modules,
        "commit": commit,
        "commit_variable": COMMIT_VARIABLE,
        "copied": sorted({name.partition("/")[0] for name in files} | {"entrypoint.sh"}),
        "checks": {name: _check(words) for name, words in _CHECKS.items()},
    }
    folder = resources.files("pipeline.images") / "templates"
    return {
        path: environment.from_string((folder / name).read_text("utf-8")).render(values)
        for name, path in _TEMPLATES.items()
    }


def _check(words: Sequence[str]) -> list[str]:
    program = ["--entrypoint", "python"] if words[0] != "--help" else []
    return ["run", "--rm", *program, "$_IMAGE", *words]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} can't be read ({error}); expected a text file") from error
