"""The functions behind `slipway canary`."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from serving.errors import Refused
from serving.traffic import commands
from serving.traffic.state import TrafficError
from serving.traffic.terminal import report_table, status_table, summary
from tests.serving.traffic.fakes import Scene


def printed(renderable: object) -> str:
    from rich.console import Console

    stream = io.StringIO()
    Console(file=stream, width=200).print(renderable)
    return stream.getvalue()


def test_a_whole_rollout_by_command(scene: Scene) -> None:
    started = commands.start(scene.settings, controller=scene.controller)
    assert summary(started) == "pets: version 3 on trial with 5% of the users, step 1 of 4; version 2 is stable"
    scene.answers("stable", 2, 300)
    scene.answers("canary", 3, 300)
    scene.clock.sleep(31)

    status = commands.status(scene.settings, controller=scene.controller)
    assert status.judgement is not None and status.judgement.action == "advance"
    promoted = commands.promote(scene.settings, controller=scene.controller)
    assert summary(promoted) == "pets: version 3 answers everyone; no canary"
    back = commands.roll_back(scene.settings, controller=scene.controller)
    assert back.state.stable == 2


def test_abort(scene: Scene) -> None:
    commands.start(scene.settings, shadow=True, shadow_share=0.5, automatic=False, controller=scene.controller)
    assert "shadow of 50% of the rest" in summary(commands.status(scene.settings, controller=scene.controller))

    assert commands.abort(scene.settings, controller=scene.controller).state.canary is None


def test_the_tables_say_what_matters(scene: Scene) -> None:
    commands.start(scene.settings, controller=scene.controller)
    scene.answers("stable", 2, 50)
    scene.answers("canary", 3, 50, failures=5)
    scene.outcomes.record_shadow(3, True, 200, 5.0, 1, 0.9, agreed=True)
    scene.outcomes.flush()
    status = commands.status(scene.settings, controller=scene.controller)

    text = printed(status_table(status))

    for expected in (
        "2 AVAILABLE, 3 AVAILABLE",
        "samples",
        "wait",
        "10.00%",
        "shadow",
        "serve",
        "Not decided",
        "agrees",
    ):
        assert expected in text
    assert "version" in printed(report_table(status.report))


def test_words_of_a_server_are_no_markup(scene: Scene) -> None:
    commands.start(scene.settings, controller=scene.controller)
    commands.abort(scene.settings, reason="[/red] [bold]looks odd", controller=scene.controller)

    assert "[/red] [bold]looks odd" in printed(
        status_table(commands.status(scene.settings, controller=scene.controller))
    )


def test_json_of_the_status(scene: Scene) -> None:
    commands.start(scene.settings, controller=scene.controller)

    values = json.loads(json.dumps(commands.status(scene.settings, controller=scene.controller).to_dict()))

    assert values["state"]["canary"] == 3
    assert values["judgement"]["action"] == "wait"
    assert values["decisions"][0]["action"] == "pin"


def test_status_changes_nothing_and_tells_of_servers_that_are_down(scene: Scene) -> None:
    commands.start(scene.settings, controller=scene.controller)
    scene.server.down = True
    before = (scene.state_dir / "traffic.json").read_bytes()

    status = commands.status(scene.settings, controller=scene.controller)

    assert "cannot be reached" in status.servers[0].problem
    assert "cannot be reached" in printed(status_table(status))
    assert (scene.state_dir / "traffic.json").read_bytes() == before


def test_exit_codes(scene: Scene, tmp_path: Path) -> None:
    with pytest.raises(TrafficError) as no_canary:
        commands.abort(scene.settings, controller=scene.controller)
    commands.start(scene.settings, controller=scene.controller)
    with pytest.raises(Refused) as refused:
        commands.promote(scene.settings, controller=scene.controller)

    assert (no_canary.value.exit_code, refused.value.exit_code) == (2, 3)


def test_settings_are_found(tmp_path: Path) -> None:
    assert commands.find_settings(tmp_path).state_dir == tmp_path
    (tmp_path / "traffic.yaml").write_text("state_dir: .\nsteps: [0.5]\n")
    assert commands.find_settings(tmp_path).steps == (0.5,)
    assert commands.find_settings(tmp_path, servers=["grpc://a:1"]).servers == ("grpc://a:1",)
    other = tmp_path / "other.yaml"
    other.write_text("state_dir: elsewhere\n")
    assert commands.find_settings(config=other).state_dir == tmp_path / "elsewhere"
    with pytest.raises(TrafficError, match="state_dir"):
        commands.find_settings()
