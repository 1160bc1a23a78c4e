"""The config file: pinned, with both labels, and taken up again as it was."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.traffic import history, rollout
from serving.traffic.state import TrafficError, TrafficFile, TrafficState
from tests.serving.traffic.fakes import Scene, parse


def test_the_newest_intact_version_is_pinned(tmp_path: Path, published: Path) -> None:
    (published / "3" / "saved_model.pb").write_bytes(b"broken")

    path = rollout.ensure(published, "pets", tmp_path / "state")

    assert parse(path.read_text()) == ([2], {"stable": 2, "canary": 2})
    assert TrafficFile(tmp_path / "state").read().stable == 2


def test_a_newer_version_changes_nothing(tmp_path: Path, published: Path, state_dir: Path) -> None:
    path = rollout.ensure(published, "pets", state_dir)

    assert parse(path.read_text()) == ([2], {"stable": 2, "canary": 2})


def test_nothing_published(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="publish a model first"):
        rollout.ensure(tmp_path / "served", "pets", tmp_path / "state")

    assert not (tmp_path / "state" / "traffic.json").exists()


def test_another_models_directory(published: Path, state_dir: Path) -> None:
    with pytest.raises(TrafficError, match="is of model 'pets', not 'cars'"):
        rollout.ensure(published, "cars", state_dir)


def test_stable_is_gone(published: Path, state_dir: Path) -> None:
    shutil.rmtree(published / "2")

    with pytest.raises(TrafficError, match=r"version 2 of 'pets', which is stable, cannot be served: .* is missing"):
        rollout.ensure(published, "pets", state_dir)


@pytest.mark.parametrize("damage", ["deleted", "changed"])
def test_a_canary_that_was_lost_while_the_server_was_down_is_given_up(
    scene: Scene, published: Path, damage: str
) -> None:
    scene.controller.start()
    if damage == "deleted":
        shutil.rmtree(published / "3")
    else:
        (published / "3" / "saved_model.pb").write_bytes(b"broken")

    path = rollout.ensure(published, "pets", scene.state_dir)

    assert parse(path.read_text()) == ([2], {"stable": 2, "canary": 2})
    assert (scene.state.canary, scene.state.weight, scene.state.phase) == (None, 0.0, "idle")
    assert history.read(scene.state_dir)[-1].action == "rolled-back"


def test_the_versions_may_move(tmp_path: Path, published: Path, state_dir: Path) -> None:
    moved = tmp_path / "elsewhere"
    published.rename(moved)

    path = rollout.ensure(moved, "pets", state_dir)

    assert f'base_path: "{moved}"' in path.read_text()


@given(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20))
def test_any_name_and_path_survives_the_text_format(name: str) -> None:
    state = TrafficState(model=name, base_path=f"/{name}", stable=1)
    text = rollout.render(state.model, state.base_path, rollout.only_stable(state))

    quoted = [line.split(": ", 1)[1] for line in text.splitlines() if line.strip().startswith(("name:", "base_path:"))]
    read = [value[1:-1].encode().decode("unicode_escape").encode("latin-1").decode() for value in quoted]
    assert read == [name, f"/{name}"]


def test_the_file_is_what_tensorflow_serving_reads(tmp_path: Path, scene: Scene) -> None:
    from google.protobuf import text_format

    from serving.wire import messages

    scene.controller.start()

    config = messages.ModelServerConfig()
    text_format.Parse((scene.state_dir / rollout.CONFIG_FILE).read_text(), config)

    model = config.model_config_list.config[0]
    assert (model.name, model.model_platform) == ("pets", "tensorflow")
    assert list(model.model_version_policy.specific.versions) == [2, 3]
    assert dict(model.version_labels) == {"stable": 2, "canary": 3}


def test_unchanged_files_are_not_written_again(tmp_path: Path) -> None:
    assert rollout.write_config(tmp_path, "a")
    assert not rollout.write_config(tmp_path, "a")
    (tmp_path / rollout.CONFIG_FILE).write_bytes(b"\xff")
    assert rollout.write_config(tmp_path, "a")


def test_problems_of_a_version(published: Path) -> None:
    assert rollout.version_problems(published, 1) == []
    assert "missing" in rollout.version_problems(published, 9)[0]
    (published / "1").rename(published / "8")
    assert "is of version 1" in rollout.version_problems(published, 8)[0]
