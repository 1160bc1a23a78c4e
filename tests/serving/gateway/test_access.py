"""Keys, tokens, roles and rates: who gets in, who does not, and that nothing secret leaks."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.gateway import secret_files
from serving.gateway.errors import GatewayError
from serving.gateway.keys import KeyStore
from serving.gateway.settings import Jwt
from serving.gateway.signing import Signer
from serving.gateway.tokens import TokenVerifier
from tests.serving.gateway.conftest import Asker, picture

PEPPER = b"p" * 32
AUDIENCE = "slipway"
RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED_KEY = ed25519.Ed25519PrivateKey.generate()
SECRET = b"s" * 40


def bearer(value: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {value}"}


def claims(**changes: Any) -> dict[str, Any]:
    found = {"sub": "ann", "aud": AUDIENCE, "exp": int(time.time()) + 300, "roles": ["predict"], **changes}
    return {key: value for key, value in found.items() if value is not None}


@pytest.fixture
def jwks(tmp_path: Path) -> Path:
    keys = [
        {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA_KEY.public_key())), "kid": "rsa", "use": "sig"},
        {**json.loads(jwt.algorithms.OKPAlgorithm.to_jwk(ED_KEY.public_key())), "kid": "ed"},
        {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET).decode().rstrip("="), "kid": "shared"},
    ]
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": keys}))
    return path


def verifier(path: Path, **changes: Any) -> TokenVerifier:
    values = {"jwks_file": path, "audience": AUDIENCE, "algorithms": ("RS256", "EdDSA", "HS256"), "leeway_seconds": 0}
    return TokenVerifier(Jwt.model_validate({**values, **changes}))


SIGNERS = [("RS256", RSA_KEY, "rsa"), ("EdDSA", ED_KEY, "ed"), ("HS256", SECRET, "shared")]


@pytest.mark.parametrize(("algorithm", "key", "kid"), SIGNERS, ids=["RS256", "EdDSA", "HS256"])
def test_a_good_token_of_each_algorithm_speaks_for_its_subject(jwks: Path, algorithm: str, key: Any, kid: str) -> None:
    for headers in ({"kid": kid}, {}):
        token = jwt.encode(claims(roles="predict admin root"), key, algorithm, headers=headers)
        found = verifier(jwks).verify(token)
        assert found is not None and found.subject == "ann" and found.roles == {"predict", "admin"}
    assert verifier(jwks).verify(jwt.encode(claims(roles=None), key, algorithm, headers={"kid": kid})).roles == set()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": 1},
        {"exp": None},
        {"aud": "other"},
        {"aud": None},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 300},
        {"nbf": int(time.time()) + 10_000},
        {"iss": "someone else"},
        {"iss": None},
    ],
    ids=[
        "expired",
        "endless",
        "for others",
        "for nobody",
        "by nobody",
        "empty",
        "long",
        "early",
        "foreign",
        "no issuer",
    ],
)
def test_a_token_with_wrong_claims_speaks_for_nobody(jwks: Path, changes: dict[str, Any]) -> None:
    token = jwt.encode(claims(**{"iss": "house", **changes}), RSA_KEY, "RS256", headers={"kid": "rsa"})
    assert verifier(jwks, issuer="house").verify(token) is None
    good = jwt.encode(claims(iss="house"), RSA_KEY, "RS256", headers={"kid": "rsa"})
    assert verifier(jwks, issuer="house").verify(good) is not None


def by_hand(header: dict[str, Any], key: bytes | None) -> str:
    def part(raw: bytes) -> str:
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    body = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims(roles=['admin'])).encode())}"
    return f"{body}.{part(hmac.new(key, body.encode(), hashlib.sha256).digest()) if key else ''}"


def test_confusing_the_algorithms_opens_nothing(jwks: Path) -> None:
    """RFC 8725, 2.1: `none`, and a public key used as the secret of an HMAC in every spelling of it."""
    public = RSA_KEY.public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    entry = json.loads(jwks.read_text())["keys"][0]
    spellings = [pem, pem.strip(), der, json.dumps(entry).encode(), entry["n"].encode(), b""]
    tokens = [by_hand({"alg": "HS256", "typ": "JWT", **kid}, key) for key in spellings for kid in ({"kid": "rsa"}, {})]
    tokens += [
        by_hand({"alg": alg, "kid": kid}, None) for alg in ("none", "None", "NONE", "") for kid in ("rsa", "shared")
    ]
    tokens += [by_hand({"alg": "HS384", "kid": "shared"}, SECRET), by_hand({"kid": "shared"}, SECRET)]
    tokens += [
        by_hand({"alg": "HS256", "kid": ["shared"]}, SECRET),
        by_hand({"alg": "HS256", "kid": "unknown"}, SECRET),
    ]
    tokens += [by_hand({"alg": "HS256", "jwk": {"kty": "oct", "k": "AAAA"}}, base64.b64decode("AAAA"))]
    check = verifier(jwks)
    assert [token for token in tokens if check.verify(token) is not None] == []
    only_public = verifier(jwks, algorithms=("RS256", "EdDSA"))
    assert only_public.verify(jwt.encode(claims(), SECRET, "HS256", headers={"kid": "shared"})) is None
    assert check.verify(by_hand({"alg": "HS256", "kid": "shared"}, SECRET)) is not None, (
        "the forger's tool itself works"
    )


def test_a_signature_that_was_changed_opens_nothing(jwks: Path) -> None:
    token = jwt.encode(claims(), ED_KEY, "EdDSA", headers={"kid": "ed"})
    head, body, signature = token.split(".")
    other = base64.urlsafe_b64encode(json.dumps(claims(roles=["admin"])).encode()).decode().rstrip("=")
    check = verifier(jwks)
    for forged in (
        f"{head}.{other}.{signature}",
        f"{head}.{body}.",
        f"{head}.{body}",
        token + "A" * 9000,
        "",
        "..",
        "é.é.é",
    ):
        assert check.verify(forged) is None


def test_keys_are_rotated_without_a_restart_and_a_torn_file_keeps_the_old_ones(jwks: Path) -> None:
    check = verifier(jwks)
    token = jwt.encode(claims(), RSA_KEY, "RS256", headers={"kid": "rsa"})
    assert check.verify(token) is not None
    whole = jwks.read_text()
    jwks.write_text(whole[:30])
    assert check.verify(token) is not None, "a file that is half written locks nobody out"
    jwks.write_text(json.dumps({"keys": json.loads(whole)["keys"][1:]}))
    assert check.verify(token) is None, "the key was taken away"


@pytest.mark.parametrize(
    ("document", "hint"),
    [
        ("{", "no JSON Web Key Set"),
        ("[]", "holds no key"),
        ('{"keys": []}', "holds no key"),
        ('{"keys": [{"kty": "oct", "k": "c2hvcnQ"}]}', "at least 32"),
        ('{"keys": [{"kty": "RSA", "alg": "HS256", "n": "AQAB", "e": "AQAB"}]}', "holds no key"),
        ('{"keys": [{"kty": "RSA", "n": "AQAB"}]}', "cannot be read"),
        ('{"keys": ["text"]}', "no JSON Web Key Set"),
    ],
    ids=["torn", "list", "empty", "short secret", "type against algorithm", "broken key", "text"],
)
def test_a_useless_key_set_stops_the_start(tmp_path: Path, document: str, hint: str) -> None:
    path = tmp_path / "jwks.json"
    path.write_text(document)
    with pytest.raises(GatewayError, match=hint):
        verifier(path)
    with pytest.raises(GatewayError, match="no JSON Web Key Set"):
        verifier(tmp_path / "nowhere.json")


def test_a_weak_rsa_key_is_refused(tmp_path: Path) -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024).public_key()
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps({"keys": [json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(weak))]}))
    with pytest.raises(GatewayError, match="1024 bits"):
        verifier(path)


def test_a_key_is_shown_once_and_kept_as_a_hash(tmp_path: Path) -> None:
    store = KeyStore(tmp_path / "keys.json", PEPPER)
    key, shown = store.add("a phone", ["predict"])
    kept = (tmp_path / "keys.json").read_text()
    secret = shown.rpartition("_")[2]
    assert secret not in kept and hashlib.sha256(secret.encode()).hexdigest() not in kept
    assert (tmp_path / "keys.json").stat().st_mode & 0o077 == 0
    assert store.find(shown) == key
    assert KeyStore(tmp_path / "keys.json", b"q" * 32).find(shown) is None, "without the pepper a hash opens nothing"
    wrong = ("", "slk_", shown[:-1], shown + "x", shown.replace(key.id, "0" * 12), f"slk_{key.id}_{'A' * 43}", "é" * 60)
    for guess in wrong:
        assert store.find(guess) is None


def test_a_revoked_or_expired_key_opens_nothing_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = (KeyStore(tmp_path / "keys.json", PEPPER) for _ in range(2))
    key, shown = writer.add("one", ["predict"])
    short, brief = writer.add("two", ["admin"], days=1)
    assert reader.find(shown) and reader.find(brief)
    writer.revoke(key.id)
    assert reader.find(shown) is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 86_401)
    assert reader.find(brief) is None and not short.is_valid(time.time())
    with pytest.raises(GatewayError, match="no key has the id"):
        writer.revoke("nobody")


@pytest.mark.parametrize(
    ("name", "roles", "days"),
    [("", ["predict"], None), ("a\nb", ["predict"], None), ("x", [], None), ("x", ["root"], None), ("x", ["admin"], 0)],
)
def test_senseless_keys_are_not_made(tmp_path: Path, name: str, roles: list[Any], days: float | None) -> None:
    with pytest.raises(GatewayError):
        KeyStore(tmp_path / "keys.json", PEPPER).add(name, roles, days)
    assert not (tmp_path / "keys.json").exists()


def test_a_secret_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "pepper"
    made = secret_files.load_or_make(path)
    assert len(made) == 64 and path.stat().st_mode & 0o777 == 0o600 and secret_files.load_or_make(path) == made
    path.chmod(0o644)
    with pytest.raises(GatewayError, match="chmod 600"):
        secret_files.load_or_make(path)
    path.chmod(0o600)
    path.write_text("short")
    with pytest.raises(GatewayError, match="at least 16"):
        secret_files.load_or_make(path)


def test_signed_text_is_for_one_purpose_and_one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer(PEPPER)
    sealed = signer.seal("a", {"x": 1}, 60)
    assert signer.unseal("a", sealed)["x"] == 1  # type: ignore[index]
    assert signer.unseal("b", sealed) is None and Signer(b"q" * 32).unseal("a", sealed) is None
    body, _, signature = sealed.partition(".")
    forged = base64.urlsafe_b64encode(b'{"x":2,"exp":9999999999}').decode().rstrip("=")
    for text in ("", ".", sealed[:-2], f"{forged}.{signature}", f"{body}.é", "é.é", body):
        assert signer.unseal("a", text) is None
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 61)
    assert signer.unseal("a", sealed) is None


@settings(max_examples=50)
@given(st.text(max_size=80), st.binary(max_size=40))
def test_any_text_unseals_to_nothing(text: str, raw: bytes) -> None:
    signer = Signer(PEPPER)
    assert signer.unseal("a", text) is None
    assert signer.unseal("a", base64.urlsafe_b64encode(raw).decode() + "." + text) is None


def test_roles_are_held_and_refusals_say_which(gateway: Callable[..., Asker]) -> None:
    ask = gateway(access={"anonymous": []})
    store = KeyStore(ask.parts.settings.keys_file, secret_files.load_or_make(ask.parts.settings.pepper_file))
    _, plain = store.add("plain", ["predict"])
    _, admin = store.add("admin", ["admin"])
    nobody = ask("POST", "/predict", content=picture())
    assert nobody.status_code == 401 and nobody.headers["www-authenticate"].startswith("Bearer")
    assert ask("POST", "/predict", content=picture(), headers={"X-API-Key": plain}).status_code == 200
    assert ask("POST", "/predict", content=picture(), headers=bearer(plain)).status_code == 200
    assert ask("POST", "/predict", content=picture(), headers=bearer(admin)).status_code == 403
    assert ask("GET", "/admin/status", headers=bearer(plain)).status_code == 403
    assert ask("GET", "/admin/status").status_code == 401
    status = ask("GET", "/admin/status", headers=bearer(admin))
    assert status.status_code == 200 and status.json()["version"] == 3
    for headers in (bearer("slk_x"), bearer("a.b.c"), {"Authorization": "Basic YTpi"}, {"X-API-Key": ""}):
        assert ask("POST", "/predict", content=picture(), headers=headers).status_code == 401
    both = ask("POST", "/predict", content=picture(), headers={**bearer(plain), "X-API-Key": plain})
    assert both.status_code == 400


def test_a_wrong_key_is_not_served_as_anonymous(gateway: Callable[..., Asker]) -> None:
    assert gateway()("POST", "/predict", content=picture(), headers=bearer("slk_wrong")).status_code == 401


def test_a_token_gets_in_over_http(gateway: Callable[..., Asker], jwks: Path) -> None:
    access = {"anonymous": [], "jwt": {"jwks_file": jwks, "audience": AUDIENCE}}
    ask = gateway(access=access)
    token = jwt.encode(claims(), ED_KEY, "EdDSA", headers={"kid": "ed"})
    assert ask("POST", "/predict", content=picture(), headers=bearer(token)).status_code == 200
    assert ask("GET", "/admin/status", headers=bearer(token)).status_code == 403
    assert gateway(access={"anonymous": []})("GET", "/model", headers=bearer(token)).status_code == 401


def test_each_key_has_its_own_rate(gateway: Callable[..., Asker]) -> None:
    ask = gateway(limits={"rate": "2/hour"})
    store = KeyStore(ask.parts.settings.keys_file, secret_files.load_or_make(ask.parts.settings.pepper_file))
    keys = [store.add(f"key {n}", ["predict"])[1] for n in range(2)]
    assert [ask("GET", "/model").status_code for _ in range(3)] == [200, 200, 429]
    refused = ask("GET", "/model")
    assert 1 <= int(refused.headers["retry-after"]) <= 3600 and "2 per 1 hour" in refused.json()["error"]["message"]
    for key in keys:
        assert [ask("GET", "/model", headers=bearer(key)).status_code for _ in range(3)] == [200, 200, 429]
    assert ask("GET", "/healthz").status_code == 200, "probes are never limited"


def test_guessing_keys_is_slowed_down_even_when_the_next_guess_is_right(gateway: Callable[..., Asker]) -> None:
    ask = gateway(limits={"failed_logins": "3/hour"})
    store = KeyStore(ask.parts.settings.keys_file, secret_files.load_or_make(ask.parts.settings.pepper_file))
    _, right = store.add("right", ["predict"])
    guesses = [ask("GET", "/model", headers=bearer(f"slk_{n}")).status_code for n in range(5)]
    assert guesses == [401, 401, 401, 429, 429]
    assert ask("GET", "/model", headers=bearer(right)).status_code == 429
    assert ask("GET", "/model").status_code == 200, "who shows nothing is not concerned"


def test_counters_that_are_away_stop_nobody(gateway: Callable[..., Asker]) -> None:
    ask = gateway(limits={"storage": "redis://127.0.0.1:1/0", "rate": "1/hour"})
    assert [ask("GET", "/model").status_code for _ in range(2)] == [200, 200]
