"""`POST /predict` and `POST /predict/batch` as clients see them."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from serving.client import DeadlineExceeded, InvalidRequest, NotAllowed, NotFound, ServerFailure, Unavailable
from serving.server.status import Code
from tests.serving.gateway.conftest import Asker, picture
from tests.serving.gateway.fakes import LABELS, FakeClient


def test_a_form_and_a_raw_body_get_the_same_answer(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    form = ask("POST", "/predict", files={"image": ("owl.png", picture("owl"), "image/png")})
    raw = ask("POST", "/predict", content=picture("owl"), headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert form.status_code == raw.status_code == 200, form.text
    answer = form.json()
    assert answer["label"] == answer["answer"] == "owl" and answer["class_id"] == 2 and answer["sure"] is True
    assert answer["model"] == {"name": "default", "version": 3, "variant": "latest"}
    assert answer["request_id"] == form.headers["x-request-id"] != raw.headers["x-request-id"]
    assert answer["top"][0]["label"] == "owl" and len(answer["top"]) == 4
    chances = [one["probability"] for one in answer["top"]]
    assert chances == sorted(chances, reverse=True) and sum(chances) == pytest.approx(1, abs=1e-5)
    assert {one["label"] for one in answer["top"]} == set(LABELS)
    unlike = ("request_id", "milliseconds", "receipt")
    assert {k: v for k, v in answer.items() if k not in unlike} == {
        k: v for k, v in raw.json().items() if k not in unlike
    }


def test_the_threshold_decides_what_is_not_sure(gateway: Callable[..., Asker]) -> None:
    ask = gateway(answers={"threshold": 0.99, "top_k": 2})
    unsure = ask("POST", "/predict", content=picture()).json()
    assert unsure["sure"] is False and unsure["answer"] == "not sure" and unsure["label"] == "owl"
    assert len(unsure["top"]) == 2 and unsure["threshold"] == 0.99
    exactly = repr(unsure["confidence"])
    assert ask("POST", f"/predict?threshold={exactly}", content=picture()).json()["sure"] is True
    assert len(ask("POST", "/predict?top_k=1", content=picture()).json()["top"]) == 1
    assert len(ask("POST", "/predict?top_k=1000", content=picture()).json()["top"]) == 4


@pytest.mark.parametrize(
    "query", ["top_k=0", "top_k=1001", "top_k=x", "threshold=1.1", "threshold=-1", "threshold=nan", "explain=perhaps"]
)
def test_wrong_parameters_are_refused_by_name(gateway: Callable[..., Asker], query: str) -> None:
    answer = gateway()("POST", f"/predict?{query}", content=picture())
    assert answer.status_code == 422
    assert answer.json()["error"]["message"].startswith(query.partition("=")[0])


def test_a_form_without_a_file_is_refused(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    nothing = ask("POST", "/predict", data={"image": "text"}, files={"": ("", b"")})
    assert nothing.status_code in (400, 422)
    only_fields = ask(
        "POST", "/predict", content=b"--b--\r\n", headers={"Content-Type": "multipart/form-data; boundary=b"}
    )
    assert only_fields.status_code in (400, 422)
    without = ask("POST", "/predict", content=b"x", headers={"Content-Type": "multipart/form-data"})
    assert without.status_code == 400 and without.json()["error"]["code"] == "bad_form"
    two = ask("POST", "/predict", files=[("image", ("a.png", picture())), ("image", ("b.png", picture()))])
    assert two.status_code == 413


def test_one_bad_picture_of_a_batch_fails_alone(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    unreadable = picture("dog", size=(9, 9))
    client.unreadable.add(unreadable)
    contents = [picture("cat"), b"no picture", picture("owl", "JPEG"), unreadable, b"", picture("dog")]
    files = [("image", (f"{index}.png", content)) for index, content in enumerate(contents)]
    answer = gateway(client)("POST", "/predict/batch", files=files)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert (body["succeeded"], body["failed"]) == (3, 3)
    found = [item["prediction"]["label"] if item["prediction"] else item["error"]["code"] for item in body["items"]]
    assert found == ["cat", "no_picture", "owl", "model_cannot_read", "empty", "dog"]
    assert [item["index"] for item in body["items"]] == list(range(6))
    assert len({item["receipt"] for item in body["items"] if item["prediction"]}) == 3
    assert client.asked == [(3, 4, "serving_default")], "the good pictures went out in one request"


def test_a_batch_of_bad_pictures_only_never_reaches_the_model(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    answer = gateway(client)("POST", "/predict/batch", files=[("image", ("a", b"x")), ("image", ("b", b"y"))])
    assert answer.status_code == 200 and answer.json()["failed"] == 2 and answer.json()["model"] is None
    assert not client.asked


def test_a_batch_has_limits(gateway: Callable[..., Asker]) -> None:
    ask = gateway(images={"max_batch": 2, "max_bytes": 20_000, "max_batch_bytes": 30_000})
    three = [("image", (f"{n}.png", picture())) for n in range(3)]
    assert ask("POST", "/predict/batch", files=three).json()["error"]["code"] == "too_many"
    heavy = [("image", ("a.png", bytes(60_000))), ("image", ("b.png", bytes(60_000)))]
    assert ask("POST", "/predict/batch", files=heavy).status_code == 413
    single = [("image", ("a.png", bytes(25_000))), ("image", ("b.png", picture()))]
    codes = [
        item["error"] and item["error"]["code"] for item in ask("POST", "/predict/batch", files=single).json()["items"]
    ]
    assert codes == ["too_large", None]


@pytest.mark.parametrize(
    ("failure", "status", "code"),
    [
        (Unavailable("no"), 503, "model_unavailable"),
        (Unavailable("full", Code.RESOURCE_EXHAUSTED, retry_after_seconds=7.2), 503, "model_unavailable"),
        (DeadlineExceeded("late"), 504, "model_too_slow"),
        (NotFound("who"), 503, "model_missing"),
        (NotAllowed("you?"), 502, "model_refused"),
        (ServerFailure("boom"), 502, "model_failed"),
    ],
    ids=["down", "overloaded", "late", "unknown", "not allowed", "broken"],
)
def test_failures_of_the_model_server_are_told_apart(
    gateway: Callable[..., Asker], failure: Exception, status: int, code: str
) -> None:
    client = FakeClient()
    client.failure = failure
    ask = gateway(client)
    for answer in (
        ask("POST", "/predict", content=picture()),
        ask("POST", "/predict/batch", files=[("image", ("a", picture()))]),
    ):
        assert answer.status_code == status and answer.json()["error"]["code"] == code
        if status == 503:
            assert answer.headers["retry-after"] == ("8" if "full" in str(failure) else "1")


def test_a_picture_that_only_the_model_cannot_read_is_the_clients_fault(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    client.unreadable.add(picture())
    answer = gateway(client)("POST", "/predict", content=picture())
    assert answer.status_code == 422 and answer.json()["error"]["code"] == "model_cannot_read"


def test_an_answer_that_is_none_is_the_servers_fault(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    client._one = lambda image, version: {"label": "x", "class_id": 9, "probabilities": np.ones(3)}  # type: ignore[method-assign]
    assert gateway(client)("POST", "/predict", content=picture()).status_code == 502
    client._one = lambda image, version: {"label": "x", "class_id": 0, "probabilities": np.array([np.nan, 1])}  # type: ignore[method-assign]
    assert gateway(client)("POST", "/predict", content=picture()).status_code == 502


def test_the_version_in_the_answer_is_the_one_that_answered_during_a_swap(gateway: Callable[..., Asker]) -> None:
    client = FakeClient(versions=[3])
    ask = gateway(client, upstream={"versions_seconds": 60})
    assert ask("POST", "/predict", content=picture()).json()["model"]["version"] == 3
    client.versions = [4]
    assert ask("POST", "/predict", content=picture()).json()["model"]["version"] == 4
    assert [version for version, *_ in client.asked] == [3, 4]


def test_class_names_come_from_a_file_the_model_or_its_answer(
    gateway: Callable[..., Asker], tmp_path: pytest.TempPathFactory
) -> None:
    client = FakeClient()
    client.signatures = {"serving_default"}
    anonymous = gateway(client)("POST", "/predict", content=picture()).json()
    assert anonymous["top"][0]["label"] == "owl" and anonymous["top"][1]["label"].startswith("class ")
    file = tmp_path / "labels.txt"  # type: ignore[operator]
    file.write_text("Katze\nHund\nEule\nHemd\n")
    named = gateway(client, upstream={"labels_file": file})("POST", "/predict", content=picture()).json()
    assert named["label"] == "Eule" and {one["label"] for one in named["top"]} == {"Katze", "Hund", "Eule", "Hemd"}


def test_grad_cam_is_shown_where_the_version_has_it_and_otherwise_said_why_not(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    ask = gateway(client)
    plain = ask("POST", "/predict", content=picture()).json()
    assert plain["explanation"] is None
    without = ask("POST", "/predict?explain=true", content=picture()).json()
    assert without["label"] == "owl" and without["explanation"]["available"] is False
    assert "no signature 'explain'" in without["explanation"]["reason"]

    client = FakeClient()
    client.signatures.add("explain")
    found = gateway(client)("POST", "/predict?explain=true", content=picture()).json()
    assert client.asked == [(3, 1, "explain")], "one call gives both"
    assert found["label"] == "owl" and found["explanation"]["available"] is True
    assert np.array(found["explanation"]["heatmap"]).shape == (4, 4)
    kind, _, encoded = found["explanation"]["overlay"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as overlay:
        pixels = np.asarray(overlay.convert("RGBA"))
    hottest, coldest = pixels[84, 140], pixels[200, 20]
    assert hottest[3] > 150 > 20 > coldest[3], "hot regions cover, cold ones let the picture through"


def test_a_heatmap_that_says_nothing_is_not_painted(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()
    client.signatures.add("explain")
    original = client.predict

    async def blank(*args: object, **options: object) -> object:
        answer = await original(*args, **options)  # type: ignore[arg-type]
        return {key: np.zeros_like(value) if key == "heatmap" else value for key, value in answer.items()}

    client.predict = blank  # type: ignore[assignment, method-assign]
    explanation = gateway(client)("POST", "/predict?explain=1", content=picture()).json()["explanation"]
    assert explanation["available"] is False and "no region" in explanation["reason"]


def test_too_much_work_at_once_is_turned_away(gateway: Callable[..., Asker]) -> None:
    ask = gateway(limits={"concurrency": 2})
    with ask.parts.gate.enter(2):
        busy = ask("POST", "/predict", content=picture())
    assert busy.status_code == 429 and busy.headers["retry-after"] == "1" and busy.json()["error"]["code"] == "busy"
    assert ask("POST", "/predict", content=picture()).status_code == 200
    assert ask("POST", "/predict/batch", files=[("image", ("a", picture()))]).status_code == 200


def test_an_invalid_request_upstream_about_a_label_is_no_fault_of_the_client(gateway: Callable[..., Asker]) -> None:
    client = FakeClient()

    async def resolve(*_: object) -> None:
        raise InvalidRequest("Unrecognized servable version label: stable")

    client.resolve = resolve  # type: ignore[assignment, method-assign]
    assert gateway(client)("POST", "/predict", content=picture()).status_code == 503
