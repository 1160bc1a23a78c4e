from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from transform.errors import DataError
from transform.settings import DataSettings
from transform.sources import build_source, register, registry, source_names
from transform.sources.folder import FolderSource

Tree = Callable[[dict[str, bytes]], Path]


def test_built_in_names() -> None:
    assert source_names() == ("cifar10", "digits", "fashion_mnist", "folder")


def test_a_path_is_a_folder_and_a_name_beats_a_folder(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tree({"digits/a/1.png": b"", "digits/b/1.png": b""})
    monkeypatch.chdir(root)
    assert build_source(DataSettings(source="digits")).name == "digits"
    assert isinstance(build_source(DataSettings(source="./digits")), FolderSource)
    assert isinstance(build_source(DataSettings(source="folder", path=str(root))), FolderSource)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("fashion-mnist", "Did you mean 'fashion_mnist'?"),
        ("Digits", "Did you mean 'digits'?"),
        ("./phots", "Did you mean './photos'?"),
        ("file.zip", "a file; expected a folder"),
        ("~/photos", "'~' is not expanded"),
    ],
)
def test_unknown_sources_show_names_and_the_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, expected: str
) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "file.zip").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        build_source(DataSettings(source=source))
    message = str(caught.value)
    assert expected.replace("./photos", "photos") in message.replace("./photos", "photos")
    assert "cifar10, digits, fashion_mnist, folder" in message
    assert "├── cats/" in message


def test_a_folder_needs_a_path_that_exists(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"without data.path"):
        build_source(DataSettings(source="folder"))
    with pytest.raises(DataError, match="there is no such folder"):
        build_source(DataSettings(source="folder", path=str(tmp_path / "none")))


def test_further_sources_can_be_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_factories", dict(registry._factories))
    register("mine")(lambda settings: FolderSource(settings.path or "."))
    assert isinstance(build_source(DataSettings(source="mine")), FolderSource)
