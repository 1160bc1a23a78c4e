"""Encryption, tokens and the rate limit in a real Envoy."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from serving.proxy.settings import Jwt, Limits, ProxySettings, Tls, Upstream
from tests.serving.proxy.upstreams import HttpUpstream, running, wait_until

ISSUER = "https://accounts.example"
BURST = 30


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for the loopback address, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = directory / "cert.pem", directory / "key.pem"
    paths[0].write_bytes(built.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


class Edge:
    """The proxy's URL, a key to sign tokens with, and a client that trusts its certificate."""

    def __init__(self, client: httpx.Client, key: Any) -> None:
        self.client, self.key = client, key

    def post(self, token: str = "") -> httpx.Response:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return self.client.post("/predict", content=b"x", headers=headers)

    def token(self, subject: str = "ada", **claims: object) -> str:
        expires = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        values = {"iss": ISSUER, "sub": subject, "aud": "pets", "exp": expires, **claims}
        return jwt.encode(values, self.key, algorithm="ES256", headers={"kid": "one"})


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    directory = tmp_path_factory.mktemp("edge")
    cert, key_file = certificate(directory)
    key = ec.generate_private_key(ec.SECP256R1())
    public = {**json.loads(ECAlgorithm.to_jwk(key.public_key())), "kid": "one", "alg": "ES256"}
    (directory / "jwks.json").write_text(json.dumps({"keys": [public]}))
    upstream = HttpUpstream("gateway")
    settings = ProxySettings(
        model="pets",
        stable=Upstream(hosts=(upstream.host,)),
        routes_dir=directory / "routes",
        address="127.0.0.1",
        http_port=0,
        admin_port=0,
        tls=Tls(certificate=cert, key=key_file),
        jwt=Jwt(issuer=ISSUER, audiences=("pets",), jwks=directory / "jwks.json"),
        limits=Limits(requests_per_second=1, burst=BURST),
        access_log="",
    )
    try:
        with running(settings, directory, weight=0.5) as proxy:
            import ssl

            trusted = ssl.create_default_context(cafile=str(cert))
            url = f"https://localhost:{proxy.ports['http']}"
            with httpx.Client(base_url=url, verify=trusted, timeout=60, trust_env=False) as client:
                proxy.wait_healthy()
                yield Edge(client, key)
    finally:
        upstream.close()


def test_a_good_token_passes_and_its_subject_tells_users_apart(edge: Edge) -> None:
    answers = [edge.post(edge.token("ada")) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].json()["headers"]["x-user-id"] == "ada"
    assert len({answer.headers["x-slipway-label"] for answer in answers}) == 1


def test_requests_without_a_good_token_do_not(edge: Edge) -> None:
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(hours=1)
    stranger = jwt.encode({"iss": ISSUER, "aud": "pets"}, ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")

    assert edge.post().status_code == 401
    assert edge.post("nonsense").status_code == 401
    assert edge.post(edge.token(exp=past)).status_code == 401
    assert edge.post(stranger).status_code == 401
    assert edge.post(edge.token(aud="cars")).status_code == 403


def test_health_needs_no_token(edge: Edge) -> None:
    assert edge.client.get("/-/healthy").text == "ok\n"


def test_too_many_requests_are_refused_with_429(edge: Edge) -> None:
    token, statuses = edge.token(), Counter[int]()

    def refused() -> httpx.Response | None:
        answer = edge.post(token)
        statuses[answer.status_code] += 1
        return answer if answer.status_code == 429 else None

    answer = wait_until(refused, "a refusal")

    assert answer.headers["retry-after"] == "1"
    assert statuses[200] >= 1
