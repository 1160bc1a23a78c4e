"""What every answer carries and what every request leaves behind, errors and hostile headers included."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.gateway import uploads
from serving.gateway.audit import AuditLog
from serving.gateway.settings import Audit
from tests.serving.gateway.conftest import Asker, picture
from tests.serving.gateway.fakes import FakeClient

QUIET = settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


def audit_lines(ask: Asker) -> list[dict[str, Any]]:
    ask.parts.audit.close()
    path = ask.parts.settings.data_dir / "audit.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/nowhere", 404),
        ("PUT", "/predict", 405),
        ("POST", "/predict", 422),
        ("GET", "/model", 200),
    ],
)
def test_every_answer_has_an_id_and_security_headers(
    gateway: Callable[..., Asker], method: str, path: str, status: int
) -> None:
    answer = gateway()(method, path)
    assert answer.status_code == status
    assert re.fullmatch(r"[0-9a-f]{20}", answer.headers["x-request-id"])
    policy = answer.headers["content-security-policy"]
    assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer" and answer.headers["x-frame-options"] == "DENY"
    assert "cache-control" in answer.headers
    if status >= 400:
        assert answer.json()["error"]["request_id"] == answer.headers["x-request-id"]


def test_what_nobody_foresaw_is_a_clean_500(gateway: Callable[..., Asker], caplog: pytest.LogCaptureFixture) -> None:
    client = FakeClient()

    async def explode(*_: Any) -> None:
        raise RuntimeError("secret detail")

    client.resolve = explode  # type: ignore[assignment, method-assign]
    ask = gateway(client)
    answer = ask("POST", "/predict", content=picture())
    assert answer.status_code == 500 and answer.json()["error"]["code"] == "internal"
    assert "secret" not in answer.text and answer.headers["x-content-type-options"] == "nosniff"
    assert answer.json()["error"]["request_id"] in caplog.text and "secret detail" in caplog.text
    assert [line["status"] for line in audit_lines(ask)] == [500]


@pytest.mark.parametrize("given_id", ["abc-123", "A.b_c:d", "x" * 128])
def test_a_valid_request_id_is_taken_over(gateway: Callable[..., Asker], given_id: str) -> None:
    ask = gateway()
    answer = ask("POST", "/predict", content=picture(), headers={"X-Request-ID": given_id})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == given_id
    assert [line["request_id"] for line in audit_lines(ask)] == [given_id]


@pytest.mark.parametrize("given_id", ["", " ", "a b", "x" * 129, "<script>", "../../x", "-x", "a\tb", "é"])
def test_an_invalid_request_id_is_replaced(gateway: Callable[..., Asker], given_id: str) -> None:
    answer = gateway()("GET", "/healthz", headers={"X-Request-ID": given_id.encode()})
    assert re.fullmatch(r"[0-9a-f]{20}", answer.headers["x-request-id"])


@pytest.fixture
def one(gateway: Callable[..., Asker]) -> Asker:
    """One gateway for all examples of a test."""
    return gateway(limits={"rate": "100000/minute", "failed_logins": "100000/minute"})


@QUIET
@given(
    name=st.sampled_from(["X-Request-ID", "Authorization", "X-API-Key", "Cookie", "Content-Type", "X-Forwarded-For"]),
    value=st.binary(max_size=60).filter(lambda raw: not set(raw) & {0, 10, 13}),
)
def test_no_header_breaks_the_gateway(one: Asker, name: str, value: bytes) -> None:
    answer = one("POST", "/predict", content=picture(), headers={name: value})
    assert answer.status_code in (200, 400, 401, 415, 422, 429), answer.text


@QUIET
@given(name=st.text(max_size=60))
def test_no_file_name_breaks_the_gateway_or_comes_back_harmful(one: Asker, name: str) -> None:
    answer = one("POST", "/predict/batch", files=[("image", (name or "x", picture()))])
    assert answer.status_code in (200, 400, 422)
    if answer.status_code == 200:
        shown = answer.json()["items"][0]["name"]
        assert len(shown) <= 120 and not set(shown) & set("\r\n\0/\\")


@given(st.text(max_size=300))
def test_shown_names_have_no_folders_and_no_control_signs(name: str) -> None:
    shown = uploads.shown_name(name)
    assert not set(shown) & set("/\\\0\r\n\u202e\u200f") and len(shown) <= 120


def test_other_sites_cannot_send_through_a_visitors_browser(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200), ("none", 200)):
        answer = ask("POST", "/predict", content=picture(), headers={"Sec-Fetch-Site": site})
        assert answer.status_code == status, site
    assert ask("GET", "/", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200, "links may lead here"


def test_only_named_hosts_are_served(gateway: Callable[..., Asker]) -> None:
    ask = gateway(listen={"allowed_hosts": ["gateway.test"]})
    assert ask("GET", "/healthz").status_code == 200
    rebound = ask("GET", "/healthz", headers={"Host": "evil.example"})
    assert rebound.status_code == 400 and "x-request-id" in rebound.headers


def test_the_audit_log_says_who_and_what_without_saying_it_openly(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    ask("POST", "/predict", files={"image": ("holiday-in-rome.png", picture(), "image/png")})
    ask("POST", "/predict", content=b"junk")
    ask("POST", "/predict", content=picture(), headers={"Authorization": "Bearer slk_secret"})
    ask("GET", "/healthz")
    lines = audit_lines(ask)
    assert [(line["route"], line["status"], line.get("code")) for line in lines] == [
        ("/predict", 200, None),
        ("/predict", 415, "no_picture"),
        ("/predict", 401, "unauthorized"),
    ]
    assert lines[0]["version"] == 3 and lines[0]["items"] == 1 and lines[0]["bytes"] > 100
    assert re.fullmatch(r"[0-9a-f]{16}", lines[0]["address"]) and lines[0]["identity"] == lines[1]["identity"]
    text = (ask.parts.settings.data_dir / "audit.jsonl").read_text()
    for private in ("127.0.0.1", "holiday", "slk_secret", "owl"):
        assert private not in text
    assert (ask.parts.settings.data_dir / "audit.jsonl").stat().st_mode & 0o077 == 0


def test_audit_files_are_rotated_and_the_oldest_goes(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", Audit(max_bytes=4096, keep=2), lambda: None)
    for number in range(400):
        log.write({"number": number, "padding": "x" * 60})
    log.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2"]
    numbers = [
        json.loads(line)["number"]
        for name in ("audit.jsonl.2", "audit.jsonl.1", "audit.jsonl")
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert numbers == list(range(numbers[0], 400)) and all(path.stat().st_size <= 4096 for path in tmp_path.iterdir())


def test_a_full_disk_costs_audit_lines_but_no_answer(
    gateway: Callable[..., Asker], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ask = gateway()

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("serving.gateway.audit.os.write", full)
    assert [ask("POST", "/predict", content=picture()).status_code for _ in range(3)] == [200] * 3
    ask.parts.audit.close()
    assert b"slipway_gateway_audit_dropped_total 3.0" in ask.parts.metrics.exposition()
    assert caplog.text.count("lines are lost") == 1, "said once, not for every request"


def test_requests_are_counted_under_routes_not_under_what_clients_make_up(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    ask("POST", "/predict", content=picture())
    ask("POST", "/predict", content=b"")
    for number in range(5):
        ask("GET", f"/made/up/{number}")
    ask("BREW", "/predict")
    text = ask("GET", "/metrics").text
    assert 'slipway_gateway_requests_total{method="POST",route="/predict",status="200"} 1.0' in text
    assert 'slipway_gateway_requests_total{method="GET",route="other",status="404"} 5.0' in text
    assert 'method="other"' in text and "made/up" not in text and "BREW" not in text
    assert 'slipway_gateway_refused_total{code="empty"} 1.0' in text
    assert 'slipway_gateway_predictions_total{sure="true",variant="latest",version="3"} 1.0' in text


def test_ready_only_while_the_model_server_can_answer(gateway: Callable[..., Asker]) -> None:
    from serving.client import Unavailable

    client = FakeClient()
    ask = gateway(client, upstream={"versions_seconds": 0})
    assert ask("GET", "/readyz").status_code == 200 and ask("GET", "/healthz").status_code == 200
    client.failure = Unavailable("down")
    assert ask("GET", "/readyz").status_code == 503 and ask("GET", "/healthz").status_code == 200
    client.failure, client.versions = None, []
    assert ask("GET", "/readyz").status_code == 503


def test_a_body_is_refused_by_what_it_announces_and_by_what_it_is(gateway: Callable[..., Asker]) -> None:
    ask = gateway(images={"max_bytes": 2048})
    announced = ask("POST", "/predict", content=b"x", headers={"Content-Length": "999999999999999999999999"})
    assert announced.status_code == 413 and announced.headers["connection"] == "close"

    async def endless() -> Any:
        for _ in range(1000):
            yield b"x" * 1000

    assert ask("POST", "/predict", content=endless()).status_code == 413
    boundary = b'--b\r\nContent-Disposition: form-data; name="image"; filename="x"\r\n\r\n' + bytes(200_000)
    form = ask("POST", "/predict", content=boundary, headers={"Content-Type": "multipart/form-data; boundary=b"})
    assert form.status_code == 413
    packed = ask("POST", "/predict", content=picture(), headers={"Content-Encoding": "gzip"})
    assert packed.status_code == 415


def test_a_slow_sender_is_not_waited_for(gateway: Callable[..., Asker]) -> None:
    ask = gateway(listen={"body_seconds": 0.05})

    async def dripping() -> Any:
        yield b"x"
        await asyncio.Event().wait()

    answer = ask("POST", "/predict", content=dripping())
    assert answer.status_code == 408 and answer.headers["connection"] == "close"


def test_the_api_describes_itself_with_examples(gateway: Callable[..., Asker]) -> None:
    ask = gateway()
    document = ask("GET", "/openapi.json").json()
    assert {"/predict", "/predict/batch", "/feedback", "/model", "/healthz", "/readyz"} <= set(document["paths"])
    operation = document["paths"]["/predict"]["post"]
    assert {"multipart/form-data", "image/png", "image/jpeg"} <= set(operation["requestBody"]["content"])
    assert {"200", "401", "413", "415", "422", "429", "503"} <= set(operation["responses"])
    example = document["components"]["schemas"]["PredictAnswer"]["examples"][0]
    real = ask("POST", "/predict", content=picture()).json()
    assert set(example) == set(real), "the example shows what is really answered"
    assert ask("GET", "/docs").status_code == 404, "FastAPI's page would load scripts from elsewhere"


def test_the_page_needs_nothing_from_elsewhere(gateway: Callable[..., Asker]) -> None:
    ask = gateway(page={"title": "<b>Pets & co</b>"})
    html = ask("GET", "/").text
    assert "&lt;b&gt;Pets &amp; co&lt;/b&gt;" in html and "<b>Pets" not in html
    assets = re.findall(r'(?:src|href)="(assets/[^"]+)"', html)
    assert len(assets) >= 3
    for asset in assets:
        answer = ask("GET", f"/{asset}")
        assert answer.status_code == 200 and "immutable" in answer.headers["cache-control"]
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text), asset
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=", html), "nothing inline"
    assert ask("GET", "/assets/0/../../settings.py").status_code == 404
    assert gateway(page={"enabled": False})("GET", "/").status_code == 404
