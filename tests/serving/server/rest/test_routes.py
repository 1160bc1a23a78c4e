from __future__ import annotations

import pytest

from serving.server.model_spec import ModelSpec
from serving.server.rest.routes import Route, is_api_path, match
from serving.server.status import Code, StatusError


@pytest.mark.parametrize(
    ("method", "path", "route"),
    [
        ("POST", "/v1/models/pets:predict", Route("predict", ModelSpec("pets"))),
        ("POST", "/v1/models/pets:classify", Route("classify", ModelSpec("pets"))),
        ("POST", "/v1/models/pets:regress", Route("regress", ModelSpec("pets"))),
        ("POST", "/v1/models/pets/versions/12:predict", Route("predict", ModelSpec("pets", 12))),
        ("POST", "/v1/models/pets/versions/007:predict", Route("predict", ModelSpec("pets", 7))),
        ("POST", "/v1/models/pets/versions/0:predict", Route("predict", ModelSpec("pets", 0))),
        ("POST", "/v1/models/pets/labels/canary:predict", Route("predict", ModelSpec("pets", None, "canary"))),
        ("GET", "/v1/models/pets", Route("status", ModelSpec("pets"))),
        ("GET", "/v1/models/pets/versions/3", Route("status", ModelSpec("pets", 3))),
        ("GET", "/v1/models/pets/labels/stable", Route("status", ModelSpec("pets", None, "stable"))),
        ("GET", "/v1/models/pets/metadata", Route("metadata", ModelSpec("pets"))),
        ("GET", "/v1/models/pets/versions/3/metadata", Route("metadata", ModelSpec("pets", 3))),
        ("GET", "/v1/models/pets/labels/stable/metadata", Route("metadata", ModelSpec("pets", None, "stable"))),
        ("POST", "/V1/Models/Pets:PREDICT", Route("predict", ModelSpec("Pets"))),
        ("GET", "/v1/MODELS/pets/METADATA", Route("metadata", ModelSpec("pets"))),
        ("POST", "/v1/models/my%20pets%2Fbig:predict", Route("predict", ModelSpec("my pets/big"))),
        ("POST", "/v1/models/a+b:predict", Route("predict", ModelSpec("a+b"))),
        ("POST", "/v1/models/%E7%8C%AB/labels/%E5%A5%BD:predict", Route("predict", ModelSpec("猫", None, "好"))),
        ("POST", "/v1/models/pets%3Apredict:predict", Route("predict", ModelSpec("pets:predict"))),
        ("POST", "/v1/models/pets:predict?alt=json&x=1", Route("predict", ModelSpec("pets"))),
        ("GET", "/v1/models/pets?x=:predict", Route("status", ModelSpec("pets"))),
    ],
)
def test_calls(method: str, path: str, route: Route) -> None:
    assert match(method, path) == route


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/foo"),
        ("POST", "/v1/foo"),
        ("GET", "/v1/"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/pets/"),
        ("POST", "/v1/models"),
        ("GET", "/v1/models/pets:predict"),
        ("POST", "/v1/models/pets"),
        ("POST", "/v1/models/pets:explain"),
        ("POST", "/v1/models/pets:predict/"),
        ("POST", "/v1/models/pets:predict\n"),
        ("POST", "/v1/models/pets/metadata"),
        ("POST", "/v1/models/pets/version/5:predict"),
        ("POST", "/v1/models/pets/versions/:predict"),
        ("POST", "/v1/models/pets/versions/HELLO:predict"),
        ("POST", "/v1/models/pets/versions/-1:predict"),
        ("POST", "/v1/models/pets/versions/٣:predict"),
        ("POST", "/v1/models/pets/versions/1/labels/x:predict"),
        ("GET", "/v1/models/pets/versions/1/labels/x"),
        ("PUT", "/v1/models/pets:predict"),
        ("DELETE", "/v1/models/pets"),
        ("HEAD", "/v1/models/pets"),
        ("OPTIONS", "/v1/models/pets"),
    ],
)
def test_malformed_requests(method: str, path: str) -> None:
    with pytest.raises(StatusError) as caught:
        match(method, path)
    assert caught.value.code is Code.INVALID_ARGUMENT
    assert caught.value.message == f"Malformed request: {method} {path}"


@pytest.mark.parametrize("digits", ["9223372036854775808", "18446744073709551615", "9" * 900, "9" * 5000])
def test_a_version_beyond_64_bits(digits: str) -> None:
    with pytest.raises(StatusError) as caught:
        match("POST", f"/v1/models/pets/versions/{digits}:predict")
    assert caught.value.message == f"Failed to convert version: {digits} to numeric."


def test_the_largest_version() -> None:
    assert match("GET", f"/v1/models/pets/versions/{2**63 - 1}").spec.version == 2**63 - 1


def test_no_model_is_named() -> None:
    with pytest.raises(StatusError, match=r"Missing model name in request\."):
        match("GET", "/v1/models")


@pytest.mark.parametrize(
    ("path", "expected"), [("/v1/x", True), ("/V1/x", True), ("/v1", False), ("/", False), ("/v2/models", False)]
)
def test_which_paths_belong_to_the_api(path: str, expected: bool) -> None:
    assert is_api_path(path) is expected
