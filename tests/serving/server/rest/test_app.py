from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import logging
import time
from typing import Any

import numpy as np
import pytest
from PIL import Image

from serving.server.rest.http import Response
from serving.server.status import Code, StatusError
from tests.serving.server.rest.fakes import Core

PREDICT = "/v1/models/pets:predict"


def ask(
    method: str, path: str, body: bytes | str = b"", encoding: bytes = b"", **options: Any
) -> tuple[Response, Core]:
    async def run() -> tuple[Response, Core]:
        core = Core(**options)
        content = body.encode() if isinstance(body, str) else body
        return await core.app.answer(method, path, content, encoding), core

    return asyncio.run(run())


def json_of(response: Response, status: int = 200) -> Any:
    assert response.status == status, response.body
    assert (b"content-type", b"application/json") in response.headers
    return json.loads(response.body)


def error_of(response: Response, status: int) -> str:
    document = json_of(response, status)
    assert list(document) == ["error"]
    return document["error"]


def png(width: int, height: int) -> str:
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_predict_in_rows_and_columns() -> None:
    response, core = ask("POST", PREDICT, '{"instances": [1, 2.5]}')
    assert json_of(response) == {"predictions": [2.0, 5.0]}
    assert core.plane.calls[0][:2] == ("predict", "serving_default")
    assert json_of(ask("POST", PREDICT, '{"inputs": [1, 2.5]}')[0]) == {"outputs": [2.0, 5.0]}


def test_predict_with_images() -> None:
    body = json.dumps({"signature_name": "images", "instances": [{"b64": "QUJD"}, {"b64": ""}]})
    response, core = ask("POST", PREDICT, body)
    assert json_of(response) == {"predictions": [3, 0]}
    assert core.plane.calls[0][1] == "images"


def test_the_content_of_the_answer_follows_the_outputs() -> None:
    async def run() -> Response:
        core = Core()
        core.plane.outputs = {"a": np.zeros((1,)), "b": np.array([np.nan])}
        return await core.app.answer("POST", PREDICT, b'{"instances": [1]}')

    assert asyncio.run(run()).body == b'{"predictions": [{"a": 0.0, "b": NaN}]}'


def test_classify_and_regress() -> None:
    body = '{"signature_name": "images", "examples": [{"x": 1}, {"x": 2}]}'
    response, core = ask("POST", "/v1/models/pets/versions/1:classify", body)
    assert json_of(response) == {"results": [[["cat", 0.25], ["dog", 0.75]]] * 2}
    kind, name, examples, _ = core.plane.calls[0]
    assert (kind, name, len(examples)) == ("classify", "images", 2)
    assert json_of(ask("POST", "/v1/models/pets:regress", '{"examples": [{"x": 1}]}')[0]) == {"results": [0.5]}


def test_status_and_metadata() -> None:
    found = json_of(ask("GET", "/v1/models/pets")[0])
    assert [state["version"] for state in found["model_version_status"]] == ["2", "1"]
    assert error_of(ask("GET", "/v1/models/cats")[0], 404) == "Could not find any versions of model cats"
    assert error_of(ask("GET", "/v1/models/cats/metadata")[0], 404) == "Servable not found for request: Latest(cats)"


@pytest.mark.parametrize(
    ("path", "status", "message"),
    [
        ("/v1/models/cats:predict", 404, "Servable not found for request: Latest(cats)"),
        ("/v1/models/pets/versions/9:predict", 404, "Servable not found for request: Specific(pets, 9)"),
        ("/v1/models/pets/versions/0:predict", 404, "Servable not found for request: Specific(pets, 0)"),
        ("/v1/models/pets/labels/x:predict", 400, "Unrecognized servable version label: x"),
        ("/v1/models/pets:Explain", 400, "Malformed request: POST /v1/models/pets:Explain"),
    ],
)
def test_addresses_of_nothing(path: str, status: int, message: str) -> None:
    assert error_of(ask("POST", path, '{"instances": [1]}')[0], status) == message


def test_versions_and_labels() -> None:
    for path in ("/v1/models/pets/versions/1:predict", "/v1/models/pets/labels/stable:predict"):
        response, core = ask("POST", path, '{"instances": [1]}')
        assert json_of(response) == {"predictions": [2.0]}
        assert core.models.handles[1].released == 1


def test_a_fault_in_the_text_is_told_before_a_missing_model() -> None:
    assert "Parse error" in error_of(ask("POST", "/v1/models/cats:predict", "{")[0], 400)
    assert "must be a string" in error_of(ask("POST", "/v1/models/cats:predict", '{"signature_name": 1}')[0], 400)


@pytest.mark.parametrize(
    "body", ["", "{", '{"instances": [true]}', '{"instances": [[1], 2]}', '{"signature_name": "q"}']
)
def test_bad_bodies_are_refused_and_the_model_is_given_back(body: str) -> None:
    response, core = ask("POST", PREDICT, body)
    assert error_of(response, 400)
    assert core.models.released == core.models.acquired
    assert core.plane.calls == []


def test_an_unknown_signature() -> None:
    response, _ = ask("POST", PREDICT, '{"signature_name": "q", "instances": [1]}')
    assert error_of(response, 400) == 'Serving signature name: "q" not found in signature def'


@pytest.mark.parametrize(
    ("code", "status"),
    [(Code.UNAVAILABLE, 503), (Code.DEADLINE_EXCEEDED, 504), (Code.INVALID_ARGUMENT, 400), (Code.DATA_LOSS, 500)],
)
def test_what_the_model_ends_with_is_the_answer(code: Code, status: int) -> None:
    async def run() -> tuple[Response, Core]:
        core = Core()
        core.plane.error = StatusError(code, "because")
        return await core.app.answer("POST", PREDICT, b'{"instances": [1]}'), core

    response, core = asyncio.run(run())
    assert error_of(response, status) == "because"
    assert core.models.released == core.models.acquired == 1
    assert core.count(f':tensorflow:serving:request_count{{model_name="pets",status="{code.name}"}}') == 1


def test_a_fault_of_the_server_tells_strangers_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> Response:
        core = Core()
        core.plane.error = RuntimeError("a secret")
        return await core.app.answer("POST", PREDICT, b'{"instances": [1]}')

    with caplog.at_level(logging.ERROR, "slipway.serving"):
        message = error_of(asyncio.run(run()), 500)
    assert "secret" not in message
    assert "secret" in caplog.text


@pytest.mark.parametrize(("timeout_ms", "limited"), [(30_000, True), (1, True), (0, False), (-1, False)])
def test_the_timeout_becomes_a_deadline(timeout_ms: int, limited: bool) -> None:
    before = time.monotonic()
    for path, body in ((PREDICT, '{"instances": [1]}'), ("/v1/models/pets:classify", '{"examples": [{}]}')):
        _, core = ask("POST", path, body, timeout_ms=timeout_ms)
        deadline = core.plane.calls[0][3]
        if limited:
            assert deadline is not None
            assert before < deadline <= time.monotonic() + timeout_ms / 1000
        else:
            assert deadline is None


@pytest.mark.parametrize("encoding", [b"gzip", b"x-gzip", b"identity, gzip"])
def test_gzip_bodies(encoding: bytes) -> None:
    response, _ = ask("POST", PREDICT, gzip.compress(b'{"instances": [1]}'), encoding)
    assert json_of(response) == {"predictions": [2.0]}


def test_bad_gzip_bodies() -> None:
    assert "uncompress" in error_of(ask("POST", PREDICT, b"text", b"gzip")[0], 400)
    bomb = gzip.compress(b" " * 10_000_000)
    assert "limit of 5000 bytes" in error_of(ask("POST", PREDICT, bomb, b"gzip", max_body_bytes=5000)[0], 413)


def test_other_encodings_are_read_as_they_are() -> None:
    assert json_of(ask("POST", PREDICT, '{"instances": [1]}', b"br")[0]) == {"predictions": [2.0]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (PREDICT, {"signature_name": "images", "instances": [{"b64": png(40, 30)}]}),
        (PREDICT, {"signature_name": "images", "inputs": [{"b64": png(2, 2)}, {"b64": png(40, 30)}]}),
        ("/v1/models/pets:classify", {"examples": [{"image": {"b64": png(40, 30)}}]}),
        ("/v1/models/pets:regress", {"context": {"image": {"b64": png(40, 30)}}, "examples": [{}]}),
    ],
)
def test_images_with_too_many_pixels_do_not_reach_the_model(path: str, body: dict[str, Any]) -> None:
    response, core = ask("POST", path, json.dumps(body), max_pixels=1199)
    assert "at least 1200 pixels, more than the limit of 1199" in error_of(response, 400)
    assert core.plane.calls == []
    assert ask("POST", path, json.dumps(body), max_pixels=1200)[0].status == 200


def test_outside_the_api_there_is_nothing() -> None:
    for path in ("/", "/index.html", "/v1", "/v2/models/pets", "*", ""):
        assert ask("GET", path)[0].status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_other_methods_are_malformed(method: str) -> None:
    assert error_of(ask(method, PREDICT)[0], 400) == f"Malformed request: {method} {PREDICT}"


def test_cors_headers_only_on_request() -> None:
    plain, _ = ask("POST", PREDICT, '{"instances": [1]}')
    assert dict(plain.headers) == {b"content-type": b"application/json"}
    for method, body, status in (("OPTIONS", "", 200), ("POST", '{"instances": [1]}', 200), ("POST", "{", 400)):
        response, _ = ask(method, PREDICT, body, cors=True)
        assert response.status == status
        headers = dict(response.headers)
        assert headers[b"access-control-allow-origin"] == b"*"
        assert headers[b"access-control-allow-methods"] == b"POST, GET"
        assert headers[b"access-control-allow-headers"] == b"Content-Type"
    assert ask("OPTIONS", PREDICT, cors=True)[0].body == b""
    assert ask("OPTIONS", "/elsewhere", cors=True)[0].status == 404


def test_metrics_are_served_where_asked() -> None:
    async def run() -> list[Response]:
        core = Core(monitoring_path="/metrics/of/mine")
        await core.app.answer("POST", PREDICT, b'{"instances": [1]}')
        paths = ("/metrics/of/mine", "/metrics/of/mine?x=1", "/monitoring/prometheus/metrics")
        return [await core.app.answer("GET", path, b"") for path in paths]

    first, second, third = asyncio.run(run())
    assert (
        b':tensorflow:serving:request_latency_count{model_name="pets",API="predict",entrypoint="REST"} 1' in first.body
    )
    assert dict(first.headers)[b"content-type"].startswith(b"text/plain; version=0.0.4")
    assert second.status == 200
    assert third.status == 404
    assert ask("GET", "/monitoring/prometheus/metrics")[0].status == 404


def test_every_call_is_counted() -> None:
    async def run() -> Core:
        core = Core()
        await core.app.answer("POST", PREDICT, b'{"instances": [1]}')
        await core.app.answer("POST", PREDICT, b"{")
        await core.app.answer("POST", "/v1/models/cats:predict", b'{"instances": [1]}')
        await core.app.answer("GET", "/v1/models/pets", b"")
        await core.app.answer("GET", "/v1/nothing", b"")
        return core

    core = asyncio.run(run())
    count = ":tensorflow:serving:request_count"
    assert core.count(f'{count}{{model_name="pets",status="OK"}}') == 2
    assert core.count(f'{count}{{model_name="pets",status="INVALID_ARGUMENT"}}') == 1
    assert core.count(f'{count}{{model_name="cats",status="NOT_FOUND"}}') == 1
    assert core.count(f'{count}{{model_name="",status="INVALID_ARGUMENT"}}') == 1


def test_a_cancelled_call_gives_the_model_back() -> None:
    async def run() -> Core:
        core = Core()
        core.plane.gate.clear()
        task = asyncio.create_task(core.app.answer("POST", PREDICT, b'{"instances": [1]}'))
        while not core.plane.calls:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return core

    core = asyncio.run(run())
    assert core.models.released == core.models.acquired == 1
    assert core.plane.cancelled == 1
    assert core.count(':tensorflow:serving:request_count{model_name="pets",status="CANCELLED"}') == 1
