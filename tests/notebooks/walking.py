"""Executes notebooks as a person would, and writes their outputs as they are committed.

`.venv/bin/python -m tests.notebooks.walking`, from the repository's root, executes all of them in order in a work
directory of their own and replaces the committed outputs; after a change of a notebook or of what it shows. The tests
execute them by the same function.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
CELL_SECONDS = 3600
"""Limit of one cell; on a machine that does nothing else none takes three minutes."""


def executed(path: Path, runs: Path) -> Any:
    """Return a notebook with the outputs of a fresh execution, cleaned.

    Args:
        path: the notebook.
        runs: folder for what the notebooks make; later ones find there what earlier ones made.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=CELL_SECONDS, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.execute(env={**os.environ, "PYTHONPATH": str(ROOT), "SLIPWAY_RUNS": str(runs)})
    return clean(notebook)


def clean(notebook: Any) -> Any:
    """Remove what differs from machine to machine and says nothing: metadata, and the pieces of a stream."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = _joined(cell.outputs)
    return notebook


def _joined(outputs: list[Any]) -> list[Any]:
    """Return the outputs with consecutive pieces of one stream as one."""
    joined: list[Any] = []
    for output in outputs:
        if "metadata" in output:
            output.metadata = {}
        if joined and output.output_type == "stream" == joined[-1].output_type and output.name == joined[-1].name:
            joined[-1].text += output.text
        else:
            joined.append(output)
    return joined


def text_of(notebook: Any) -> str:
    """Return everything that the cells of a notebook show as text."""
    shown = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            shown.append(output.get("text", ""))
            shown += [text for kind, text in output.get("data", {}).items() if kind.startswith("text/")]
    return "\n".join(shown)


def main(names: list[str]) -> None:
    """Execute notebooks, all of them or those whose names begin so, and write them with their outputs."""
    with tempfile.TemporaryDirectory(prefix="slipway-notebooks-") as folder:
        runs = Path(os.environ.get("SLIPWAY_RUNS", folder))
        for path in NOTEBOOKS:
            if not names or path.name.startswith(tuple(names)):
                path.write_text(nbformat.writes(executed(path, runs)) + "\n", encoding="utf-8")
                print(f"{path.name}: {path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
