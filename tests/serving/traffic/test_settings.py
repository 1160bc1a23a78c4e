"""Settings are strict, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.traffic.settings import checked_settings, load_settings
from serving.traffic.state import TrafficError


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "traffic.yaml"
    path.write_text(text)
    return path


def test_defaults_and_relative_paths(tmp_path: Path) -> None:
    settings = load_settings(write(tmp_path, "state_dir: state\nproxy: proxy.yaml\nguards: {minimum_samples: 7}\n"))

    assert settings.state_dir == tmp_path / "state"
    assert settings.proxy == tmp_path / "proxy.yaml"
    assert settings.guards.minimum_samples == 7
    assert settings.steps == (0.05, 0.25, 0.5, 1.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("state_dir: a\nsetps: [1]\n", "setps: .*\nKnown keys: .*steps"),
        ("state_dir: a\nsteps: [0.5, 0.2]\n", "each must be larger than the one before"),
        ("state_dir: a\nsteps: [2]\n", "less than or equal to 1"),
        ("state_dir: a\nservers: ['localhost']\n", "expected http://host:8501"),
        ("state_dir: a\nguards: {max_psi: -1}\n", "guards.max_psi"),
        ("servers: ['http://a:1']\n", "state_dir: Field required"),
        ("- a\n", "expected a mapping"),
        ("a: [\n", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(TrafficError, match=message):
        load_settings(write(tmp_path, text))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="cannot be read"):
        load_settings(tmp_path / "none.yaml")


def test_other_steps_are_checked_too() -> None:
    settings = checked_settings({"state_dir": "state"})

    assert settings.with_steps((0.5,)).steps == (0.5,)
    with pytest.raises(TrafficError, match="the steps cannot be used"):
        settings.with_steps((0.5, 0.5))
