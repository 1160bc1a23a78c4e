"""From a folder of images to a commented config that loads."""

from __future__ import annotations

import itertools
import logging
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import choices, initialize
from pipeline.config import load
from pipeline.errors import ConfigError
from pipeline.initialize import config_text, write_config
from pipeline.inspection import FolderFacts, inspect_folder


def save(file: Path, size: tuple[int, int] = (40, 30), mode: str = "RGB") -> None:
    """Write an image of `(width, height)`, creating its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, 100 if mode in ("L", "1", "I;16") else None).save(file)


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Return a folder of 4 cats and 6 dogs of several sizes and formats."""
    for number in range(4):
        save(tmp_path / "pets" / "cats" / f"{number}.jpg", (100 + number, 60))
    for number in range(6):
        save(tmp_path / "pets" / "dogs" / "more" / f"{number}.png", (120, 80 + number))
    return tmp_path / "pets"


def facts(**changes: object) -> FolderFacts:
    """Return the facts about a plain folder of 1000 color images, with changes."""
    values: dict[str, object] = {
        "path": Path("/data/pets"),
        "counts": {"cats": 500, "dogs": 500},
        "splits": {},
        "ignored": {},
        "sampled": 1000,
        "formats": {"jpeg": 1000},
        "size": (100, 120),
        "smallest": (50, 60),
        "largest": (200, 240),
        "gray": 0,
        "unreadable": (),
        "hurried": False,
    }
    return FolderFacts(**{**values, **changes})  # type: ignore[arg-type]


def test_a_folder_is_counted_and_measured(pets: Path) -> None:
    (pets / "cats" / "notes.txt").write_text("x")
    found = inspect_folder(pets)
    assert found.counts == {"cats": 4, "dogs": 6} and found.images == 10
    assert found.splits == {} and found.sampled == 10
    assert found.formats == {"png": 6, "jpeg": 4}
    assert (found.smallest, found.largest) == ((60, 100), (85, 120))
    assert found.majority == 0.6 and found.imbalance == 1.5 and not found.one_size
    assert found.gray == 0 and not found.unreadable and not found.hurried
    assert sum(found.ignored.values()) == 1


def test_a_split_folder_is_recognized(tmp_path: Path) -> None:
    for split, count in {"train": 6, "val": 2, "test": 3}.items():
        for label in ("a", "b"):
            for number in range(count):
                save(tmp_path / split / label / f"{number}.png")
    found = inspect_folder(tmp_path)
    assert found.splits == {"train": 12, "eval": 4, "test": 6}
    assert found.counts == {"a": 11, "b": 11}
    assert "\n  split:" not in config_text(found, tmp_path / "x.yaml")


def test_what_is_missing_in_a_split_folder_is_carved_from_train(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("a", "b"):
            save(tmp_path / split / label / "1.png")
    text = config_text(inspect_folder(tmp_path), tmp_path / "x.yaml")
    assert "the folder gives train and test" in text and "split: {" in text


def test_the_sample_is_bounded_and_repeatable(pets: Path) -> None:
    found = inspect_folder(pets, sample=3)
    assert found.sampled == 3 and found.images == 10
    assert found == inspect_folder(pets, sample=3)


def test_when_the_time_is_over_the_headers_read_so_far_do(pets: Path) -> None:
    found = inspect_folder(pets, seconds=-1.0)
    assert found.sampled == 1 and found.hurried and found.images == 10
    assert "since more took too long" in config_text(found, pets / "x.yaml")


def test_progress_is_reported(pets: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="slipway.progress"):
        inspect_folder(pets)
    assert caplog.records[-1].progress == {"done": 10, "total": 10, "unit": "images", "values": {}}  # type: ignore[attr-defined]


@pytest.mark.parametrize("mode", ["L", "1", "LA", "I;16"])
def test_gray_images_give_one_channel(tmp_path: Path, mode: str) -> None:
    for label in ("a", "b"):
        save(tmp_path / label / "1.png", mode=mode)
    found = inspect_folder(tmp_path)
    assert found.gray == 2 and choices.channels(found).value == 1


def test_mixed_images_give_three_channels(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", mode="L")
    save(tmp_path / "b" / "1.png", mode="P")
    choice = choices.channels(inspect_folder(tmp_path))
    assert choice.value == 3 and "1 of 2 sampled images are gray" in choice.why


def test_unreadable_files_are_named_and_allowed_for(pets: Path, tmp_path: Path) -> None:
    (pets / "cats" / "broken.png").write_bytes(b"no image")
    (pets / "cats" / "empty.jpg").write_bytes(b"")
    found = inspect_folder(pets)
    assert dict(found.unreadable) == {
        "cats/broken.png": "not an image that Pillow knows",
        "cats/empty.jpg": "empty",
    }
    write_config(pets, tmp_path / "x.yaml")
    text = (tmp_path / "x.yaml").read_text()
    assert "# Cannot be read: cats/broken.png (not an image that Pillow knows)" in text
    assert load(tmp_path / "x.yaml").config.data.max_unreadable >= 2 / 12


def test_a_picture_bomb_is_unreadable_and_not_unpacked(pets: Path) -> None:
    bomb = bytearray((pets / "dogs" / "more" / "0.png").read_bytes())
    bomb[16:24] = (100_000).to_bytes(4, "big") * 2
    bomb[29:33] = zlib.crc32(bomb[12:29]).to_bytes(4, "big")
    (pets / "dogs" / "bomb.png").write_bytes(bytes(bomb))
    [(file, reason)] = inspect_folder(pets).unreadable
    assert file == "dogs/bomb.png" and "DecompressionBomb" in reason


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    def problem(path: Path) -> str:
        with pytest.raises(ConfigError) as caught:
            inspect_folder(path)
        assert caught.value.exit_code == 2
        return str(caught.value)

    tree = "One folder per class"
    assert "does not exist" in problem(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is empty" in problem(empty) and tree in problem(empty)
    flat = tmp_path / "flat"
    save(flat / "1.png")
    save(flat / "2.jpg")
    assert "2 images lie directly in" in problem(flat) and tree in problem(flat)
    assert "is a file" in problem(flat / "1.png")
    text = tmp_path / "text"
    text.mkdir()
    (text / "a.txt").write_text("x")
    assert "holds no folders and no images" in problem(text)
    save(tmp_path / "one" / "cats" / "1.png")
    assert "one class" in problem(tmp_path / "one") and "'cats'" in problem(tmp_path / "one")
    for label in ("a", "b"):
        (tmp_path / "bare" / label).mkdir(parents=True)
    assert "no class folder with images" in problem(tmp_path / "bare")
    for label in ("a", "b"):
        (tmp_path / "bare" / label / "1.png").write_bytes(b"no image")
    assert "None of the 2 images tried" in problem(tmp_path / "bare")


def test_the_config_loads_and_names_the_folder(pets: Path, tmp_path: Path) -> None:
    file = tmp_path / "pets.yaml"
    found = write_config(pets, file)
    config = load(file).config
    assert found.images == 10
    assert config.name == "pets" and config.data.source == str(pets)
    assert "source: ./pets" in file.read_text()
    assert config.transform.size == (96, 96) and config.transform.channels == 3
    assert config.evaluate.top_k == 1 and config.evaluate.slices == ("label",)
    assert "Note: too few images to learn from or to judge by: cats 4, dogs 6" in file.read_text()


def test_a_config_elsewhere_names_the_folder_in_full(pets: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    write_config(pets, other / "x.yaml")
    assert load(other / "x.yaml").config.data.source == str(pets)


def test_a_folder_named_like_a_built_in_source_stays_a_folder(pets: Path) -> None:
    digits = pets.rename(pets.parent / "digits")
    write_config("digits" if Path.cwd() == digits.parent else digits, digits.parent / "x.yaml")
    assert load(digits.parent / "x.yaml").config.data.source == str(digits)


def test_every_value_has_a_comment_above_it(pets: Path) -> None:
    lines = config_text(inspect_folder(pets), pets / "x.yaml").splitlines()
    sections = {
        f"{name}:" for name in ["data", "transform", "model", "train", "tune", "evaluate", "gates", "accuracy"]
    } | {"compress:", "budget:"}
    for above, line in itertools.pairwise(lines):
        if line.strip() and not line.lstrip().startswith("#") and line.strip() not in sections:
            assert above.lstrip().startswith("#"), line


def test_a_file_is_replaced_only_by_force(pets: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text("mine")
    with pytest.raises(ConfigError, match="exists; choose another name, or replace it with --force"):
        write_config(pets, file)
    assert file.read_text() == "mine"
    write_config(pets, file, force=True)
    assert load(file).config.name == "pets"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets", "x.yaml"]


def test_a_file_that_appears_meanwhile_is_not_replaced(
    pets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.yaml"

    def slow(folder: object) -> FolderFacts:
        file.write_text("theirs")
        return inspect_folder(pets)

    monkeypatch.setattr(initialize, "inspect_folder", slow)
    with pytest.raises(ConfigError, match="exists"):
        write_config(pets, file)
    assert file.read_text() == "theirs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pets", "x.yaml"]


def test_places_that_cannot_be_written(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; expected the name of a YAML file"):
        write_config(pets, tmp_path)
    with pytest.raises(ConfigError, match="is no folder; create it"):
        write_config(pets, tmp_path / "none" / "x.yaml")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("My Pets (2024)", "my-pets-2024"),
        ("Käse & Brot", "kase-brot"),
        ("猫", "images"),
        ("--", "images"),
        ("a" * 90, "a" * 63),
        ("_x_", "x"),
    ],
)
def test_a_folder_name_becomes_a_valid_name(folder: str, name: str) -> None:
    assert choices.name_for(facts(path=Path("/data") / folder)) == name


def test_small_images_of_one_size_keep_it() -> None:
    assert choices.size(facts(size=(28, 28), smallest=(28, 28), largest=(28, 28))).value == [28, 28]
    assert choices.size(facts(size=(20, 32), smallest=(20, 32), largest=(20, 32))).value == [20, 32]


@pytest.mark.parametrize(("size", "side"), [((10, 12), 32), ((100, 100), 96), ((3000, 4000), 160)])
def test_other_sizes_become_a_rounded_square(size: tuple[int, int], side: int) -> None:
    assert choices.size(facts(size=size, counts={"a": 200, "b": 200})).value == [side, side]


def test_many_images_are_made_smaller_and_the_comment_says_so() -> None:
    choice = choices.size(facts(size=(300, 300), counts={"a": 15_000, "b": 15_000}))
    assert choice.value[0] < 160 and "160 would show more" in choice.why


def test_more_images_get_fewer_epochs_and_larger_batches() -> None:
    few, many = facts(counts={"a": 100, "b": 100}), facts(counts={"a": 30_000, "b": 30_000})
    assert choices.epochs(few, 32, 32).value > choices.epochs(many, 32, 32).value >= 3
    assert choices.batch_size(few).value < choices.batch_size(many).value == 128


def test_the_gate_lies_between_guessing_and_perfection() -> None:
    assert choices.lowest_accuracy(facts()).value == 0.55
    assert choices.lowest_accuracy(facts(counts={"a": 90, "b": 10})).value == 0.91
    assert choices.lowest_accuracy(facts(counts={str(n): 50 for n in range(10)})).value == 0.19


def test_the_allowed_drop_shrinks_with_the_test_split() -> None:
    drops = [choices.largest_drop(facts(counts={"a": n, "b": n})).value for n in (50, 500, 5000, 50_000)]
    assert drops == sorted(drops, reverse=True) and drops[-1] == 0.01 and drops[0] <= 0.2


LETTERS = st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="/")
NAMES = st.text(LETTERS, min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    folder=NAMES.filter(lambda name: name not in (".", "..")),
    counts=st.dictionaries(NAMES, st.integers(1, 10**6), min_size=2, max_size=30),
    size=st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    gray=st.sampled_from([0, 400, 1000]),
    splits=st.sampled_from([{}, {"train": 10}, {"train": 10, "test": 2}, {"train": 9, "eval": 3, "test": 1}]),
    bad=st.lists(st.tuples(NAMES, st.text(max_size=20)), max_size=8),
    one_size=st.booleans(),
)
def test_any_folder_gives_a_config_that_loads(
    tmp_path: Path,
    folder: str,
    counts: dict[str, int],
    size: tuple[int, int],
    gray: int,
    splits: dict[str, int],
    bad: list[tuple[str, str]],
    one_size: bool,
) -> None:
    file = tmp_path / "x.yaml"
    extremes = {"smallest": size, "largest": size} if one_size else {}
    found = facts(
        path=tmp_path / folder,
        counts=counts,
        size=size,
        gray=gray,
        splits=splits,
        unreadable=tuple(bad),
        **extremes,
    )
    file.write_text(config_text(found, file), encoding="utf-8")
    config = load(file).config
    assert Path(config.data.source) == tmp_path / folder
    assert min(config.transform.size) >= 8
    assert config.evaluate.top_k < len(counts)
