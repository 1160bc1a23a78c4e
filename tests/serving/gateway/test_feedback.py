"""Feedback: only on answers that were given, once, on the same picture; kept as a data set that can be imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.gateway import feedback, secret_files
from serving.gateway.feedback import FeedbackStore, Verdict, folder_name
from serving.gateway.keys import KeyStore
from serving.gateway.settings import Feedback
from tests.serving.gateway.conftest import Asker, picture


def judge(ask: Asker, receipt: str, verdict: str, image: bytes | None = None, **fields: str) -> httpx.Response:
    files = {"receipt": (None, receipt), "verdict": (None, verdict)}
    files |= {name: (None, value) for name, value in fields.items()}
    if image is not None:
        files["image"] = ("x.png", image)  # type: ignore[assignment]
    return ask("POST", "/feedback", files=files)


def answered(ask: Asker, image: bytes) -> str:
    return ask("POST", "/predict", content=image).json()["receipt"]


def root(ask: Asker) -> Path:
    return ask.parts.feedback.directory


def test_right_and_wrong_make_a_folder_per_class(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    owl, dog = picture("owl"), picture("dog", "JPEG")
    right = judge(ask, answered(ask, owl), "right", owl)
    assert right.status_code == 201 and right.json() == {"stored": "picture", "label": "owl"}
    wrong = judge(ask, answered(ask, dog), "wrong", dog, label="T-shirt/top")
    assert wrong.status_code == 201, wrong.text
    kept = sorted(path.relative_to(root(ask) / "images").as_posix() for path in (root(ask) / "images").rglob("*.*"))
    assert [name.partition("/")[0] for name in kept] == ["T-shirt%2Ftop", "owl"]
    assert [name.rpartition(".")[2] for name in kept] == ["jpg", "png"]
    first, second = feedback.read(root(ask))
    assert (first.right, first.predicted, first.label, first.version, first.variant) == (
        True,
        "owl",
        "owl",
        3,
        "latest",
    )
    assert (second.right, second.predicted, second.label) == (False, "dog", "T-shirt/top")
    assert all((root(ask) / str(one.file)).exists() for one in (first, second))


def test_what_is_kept_can_be_imported_for_training(gateway: Callable[..., Asker]) -> None:
    from transform.sources.scan import scan_folder

    ask = gateway()
    for kind in ("owl", "cat"):
        image = picture(kind, size=(30, 20))
        judge(ask, answered(ask, image), "right", image)
    image = picture("dog")
    judge(ask, answered(ask, image), "wrong", image, label="cat")
    listing = scan_folder(str(root(ask) / "images"))
    assert listing.labels == ("cat", "owl") and len(listing) == 3 and not listing.ignored


def test_wrong_without_knowing_better_keeps_the_verdict_only(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    found = judge(ask, answered(ask, picture()), "wrong", picture())
    assert found.json() == {"stored": "verdict", "label": None}
    assert not list((root(ask) / "images").rglob("*.*")) and next(feedback.read(root(ask))).file is None


def test_pictures_are_not_kept_where_that_is_switched_off(gateway: Callable[..., Asker]) -> None:
    ask = gateway(feedback={"images": False})
    assert judge(ask, answered(ask, picture()), "right", picture()).json()["stored"] == "verdict"
    assert not list((root(ask) / "images").rglob("*.*"))
    off = gateway(feedback={"enabled": False})
    assert off("POST", "/predict", content=picture()).json()["receipt"] is None
    assert judge(off, "x", "right").status_code == 404


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"receipt": "forged"}, "bad_receipt"),
        ({"receipt": ""}, "bad_receipt"),
        ({"verdict": "perhaps"}, "bad_verdict"),
        ({"image": picture("cat")}, "other_picture"),
        ({"image": b"garbage"}, "no_picture"),
        ({"verdict": "right", "label": "cat"}, "contradiction"),
        ({"verdict": "wrong", "label": "owl"}, "contradiction"),
        ({"verdict": "wrong", "label": "../../etc"}, "unknown_label"),
        ({"verdict": "wrong", "label": "x" * 5000}, "unknown_label"),
    ],
    ids=["forged", "none", "verdict", "other picture", "garbage", "right as other", "wrong as same", "path", "long"],
)
def test_feedback_that_makes_no_sense_leaves_nothing(
    gateway: Callable[..., Asker], fields: dict[str, Any], code: str
) -> None:
    ask = gateway()
    given_fields = {"receipt": answered(ask, picture()), "verdict": "right", "image": picture(), **fields}
    refused = judge(ask, given_fields.pop("receipt"), given_fields.pop("verdict"), **given_fields)
    assert refused.status_code in (415, 422) and refused.json()["error"]["code"] == code
    assert not list(feedback.read(root(ask))) and not list((root(ask) / "images").iterdir())


def test_an_answer_is_judged_once_also_across_a_restart(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    receipt = answered(ask, picture())
    assert judge(ask, receipt, "right").status_code == 201
    assert judge(ask, receipt, "wrong").status_code == 409
    assert judge(gateway(), receipt, "wrong").status_code == 409
    assert len(list(feedback.read(root(ask)))) == 1


def test_a_picture_lies_in_one_class_only_the_newest(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    judge(ask, answered(ask, picture()), "right", picture())
    judge(ask, answered(ask, picture()), "wrong", picture(), label="dog")
    kept = [path.parent.name for path in (root(ask) / "images").rglob("*.png")]
    assert kept == ["dog"]
    assert ask.parts.feedback.counts()["image_bytes"] == sum(p.stat().st_size for p in root(ask).rglob("*.png"))


def test_space_is_limited_and_a_full_disk_is_told(
    gateway: Callable[..., Asker], monkeypatch: pytest.MonkeyPatch
) -> None:
    ask = gateway(feedback={"max_total_bytes": 1024})
    noisy = picture(size=(400, 400), form="BMP")
    assert judge(ask, answered(ask, noisy), "right", noisy).status_code == 507
    assert judge(ask, answered(ask, picture()), "right", picture()).status_code == 201

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serving.gateway.feedback.os.fsync", full)
    refused = judge(ask, answered(ask, picture("cat")), "right", picture("cat"))
    assert refused.status_code == 507 and "No space" in refused.json()["error"]["message"]
    leftovers = [path for path in (root(ask) / "images").rglob("*") if path.name.startswith(".")]
    assert not leftovers and len(list(root(ask).rglob("*.png"))) == 1


def test_a_line_that_a_crash_cut_off_spoils_no_other(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path, Feedback())
    line = Verdict(
        time=1.0,
        request_id="a",
        user="u",
        variant="stable",
        version=1,
        predicted="x",
        confidence=0.5,
        right=True,
        digest="d",
    )
    store.add(line, None)
    with (tmp_path / feedback.LINES).open("ab") as stream:
        stream.write(b'{"time": 2.0, "requ')
    FeedbackStore(tmp_path, Feedback()).add(line.model_copy(update={"request_id": "b"}), None)
    assert [one.request_id for one in feedback.read(tmp_path)] == ["a", "b"]


def test_administrators_see_the_newest_verdicts(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    for kind in ("owl", "cat"):
        judge(ask, answered(ask, picture(kind)), "right")
    store = KeyStore(ask.parts.settings.keys_file, secret_files.load_or_make(ask.parts.settings.pepper_file))
    _, admin = store.add("admin", ["admin"])
    assert ask("GET", "/admin/feedback").status_code == 401
    found = ask("GET", "/admin/feedback?count=1", headers={"X-API-Key": admin}).json()
    assert [one["predicted"] for one in found] == ["cat"]
    assert "127.0.0.1" not in json.dumps(found)


def test_each_picture_of_a_batch_is_judged_for_itself(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    files = [("image", ("a", picture("cat"))), ("image", ("b", picture("dog")))]
    items = ask("POST", "/predict/batch", files=files).json()["items"]
    assert judge(ask, items[0]["receipt"], "right", picture("cat")).status_code == 201
    assert judge(ask, items[1]["receipt"], "right", picture("cat")).status_code == 422
    assert judge(ask, items[1]["receipt"], "right", picture("dog")).status_code == 201


@given(st.text(min_size=1, max_size=120))
def test_any_label_becomes_one_safe_folder(label: str) -> None:
    name = folder_name(label)
    assert "/" not in name and "\0" not in name and name not in (".", "..") and not name.startswith(".")
    assert 0 < len(name.encode()) <= 255 and name.isprintable() and name == name.strip()
    assert name.lower() not in ("train", "val", "test", "eval", "__macosx")


def test_labels_that_folders_can_have_stay_as_they_are() -> None:
    for label in ("owl", "T-shirt", "Öltanker", "digit 3", "日本", "a.b", "c++"):
        assert folder_name(label) == label
    assert folder_name("train") != folder_name("Train") and folder_name("..") == "%2E%2E"
    assert folder_name("a/b") == "a%2Fb" != folder_name("a%2Fb")
