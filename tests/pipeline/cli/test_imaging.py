"""`slipway image`, as somebody types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.cli import app


def test_the_config_names_image_and_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text("MINE = 1\n", encoding="utf-8")
    config = tmp_path / "c.yaml"
    config.write_text(
        "name: digits\ndata: {source: digits}\ntransform: {size: [8, 8], channels: 1}\n"
        f"model: {{name: mine, module: {tmp_path}/mine.py}}\n"
        "vertex: {image: 'example.org/slipway/pipeline:7'}\n",
        encoding="utf-8",
    )
    assert app.run(["image", str(config), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert f"docker build -t example.org/slipway/pipeline:7 {tmp_path / 'out'}" in said
    assert "/modules/mine.py; set vertex.model_module" in said
    assert (tmp_path / "out/modules/mine.py").read_text() == "MINE = 1\n"
    assert app.run(["image", "--out", str(tmp_path / "out"), "--image", "other:1", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert outcome["image"] == "other:1" and outcome["removed"] == ["modules/mine.py"]


def test_a_bad_name_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["image", "--out", str(tmp_path / "out"), "--image", "Bad Name"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
