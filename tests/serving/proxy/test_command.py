"""`python -m serving.proxy`."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.proxy.__main__ import main

GOOD = "model: pets\nstable: {hosts: ['127.0.0.1:8080']}\nroutes_dir: routes\n"


def test_validate_writes_and_checks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "proxy.yaml").write_text(GOOD)

    assert main(["validate", "--config", str(tmp_path / "proxy.yaml"), "--directory", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out" / "envoy.yaml")
    assert (tmp_path / "routes" / "http_routes.json").is_file()


def test_problems_are_told_with_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "proxy.yaml").write_text(GOOD + "tls: {certificate: none.pem, key: none.pem}\n")

    assert main(["validate", "--config", str(tmp_path / "proxy.yaml"), "--directory", str(tmp_path)]) == 2
    assert "none.pem" in capsys.readouterr().err
    assert main(["write", "--config", str(tmp_path / "missing.yaml")]) == 2
