"""Settings of the proxy are strict, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.proxy.settings import ProxyError, endpoint, load_settings

GOOD = "model: pets\nstable: {hosts: ['gateway:8080']}\nroutes_dir: routes\n"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "proxy.yaml"
    path.write_text(text)
    return path


def test_paths_start_at_the_file(tmp_path: Path) -> None:
    text = f"{GOOD}tls: {{certificate: a.pem, key: b.pem}}\njwt: {{issuer: me, jwks: /etc/keys.json}}\n"
    settings = load_settings(write(tmp_path, text))

    assert settings.routes_dir == tmp_path / "routes"
    assert settings.tls is not None and settings.tls.certificate == tmp_path / "a.pem"
    assert settings.jwt is not None and settings.jwt.jwks == Path("/etc/keys.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"{GOOD}prot: 1\n", "prot: .*\nKnown keys: .*http_port"),
        (GOOD.replace("gateway:8080", "gateway"), "expected host:port"),
        (GOOD.replace("['gateway:8080']", "[]"), "stable.hosts"),
        (f"{GOOD}user_header: 'X User'\n", "expected the name of a header"),
        (f"{GOOD}user_cookie: 'a=b'\n", "expected the name of a cookie"),
        (f"{GOOD}grpc_canary: {{hosts: ['a:1']}}\n", "grpc_canary is given without grpc_stable"),
        (f"{GOOD}limits: {{request_bytes: 0}}\n", "limits.request_bytes"),
        ("- a\n", "expected a mapping"),
        ("a: [\n", "cannot be read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ProxyError, match=message):
        load_settings(write(tmp_path, text))


@pytest.mark.parametrize(("text", "expected"), [("a-b.example:80", ("a-b.example", 80)), ("[::1]:8501", ("::1", 8501))])
def test_endpoints(text: str, expected: tuple[str, int]) -> None:
    assert endpoint(text) == expected


@pytest.mark.parametrize("text", ["", "a", "a:", ":80", "a:0", "a:65536", "a:80/x", "http://a:80", "a b:80", "a:80\n"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="expected host:port"):
        endpoint(text)
