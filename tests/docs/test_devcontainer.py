"""The development container: valid, and true about this project."""

from __future__ import annotations

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONTAINER = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))


def test_it_sets_up_by_a_target_that_exists():
    program, target = CONTAINER["postCreateCommand"].split()
    assert program == "make"
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_its_python_is_that_of_the_project():
    wanted = re.search(r'requires-python = ">=(3\.\d+)', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert wanted is not None
    assert re.search(rf"python:.*\b{re.escape(wanted[1])}\b", CONTAINER["image"])


def test_ports_are_those_on_which_commands_listen():
    from pipeline.cli import serving
    from serving.gateway.settings import GatewaySettings

    gateway = GatewaySettings.model_validate({"upstream": {"model": "m"}}).listen.port
    assert set(CONTAINER["forwardPorts"]) == {gateway, serving._GRPC_PORT, serving._REST_PORT}
    assert set(CONTAINER["portsAttributes"]) == {str(port) for port in CONTAINER["forwardPorts"]}


def test_paths_in_its_settings_exist():
    settings = CONTAINER["customizations"]["vscode"]["settings"]
    for schema, patterns in settings["yaml.schemas"].items():
        assert (ROOT / schema).is_file()
        assert all(list(ROOT.glob(pattern)) for pattern in patterns)
    environment = re.search(r"^BIN := (\S+)/bin$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert environment is not None
    folder = f"${{containerWorkspaceFolder}}/{environment[1]}/bin"
    assert settings["python.defaultInterpreterPath"] == f"{folder}/python"
    assert CONTAINER["remoteEnv"]["PATH"].split(":")[0] == folder


def test_extensions_are_named_in_full():
    extensions = CONTAINER["customizations"]["vscode"]["extensions"]
    assert extensions and all(re.fullmatch(r"[a-z0-9-]+\.[a-z0-9-]+", name) for name in extensions)
