"""A candidate behind the real server, for as long as it is checked."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from serving.candidate_server import serving_candidate
from serving.errors import ServingError
from serving.saved_model import SessionModel
from tests.serving.saved_models import encode_png, picture, to_example

pytestmark = pytest.mark.slow


def _gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_good_model_answers_on_both_apis(classifier_dir: Path) -> None:
    images = [encode_png(picture(seed)) for seed in range(3)]
    with SessionModel.load(classifier_dir) as model, serving_candidate(classifier_dir, fork=False) as server:
        expected = model.run("serving_default", {"image_bytes": np.array(images, dtype=object)})["probabilities"]
        server.wait()
        for ask in (server.rest_predict, server.grpc_predict):
            np.testing.assert_allclose(ask("serving_default", "image_bytes", images)["probabilities"], expected, 1e-5)
        answer = server.grpc_classify("classify", [to_example(images[0])])[0]
        np.testing.assert_allclose([answer[name] for name in ("cat", "dog", "owl")], expected[0], 1e-5)
        with pytest.raises(ServingError, match=r"REST answered 400: .*not found in signature def"):
            server.rest_predict("none", "image_bytes", images)
        with pytest.raises(ServingError, match=r"gRPC answered FAILED_PRECONDITION: .*not found"):
            server.grpc_predict("none", "image_bytes", images)
        pid = server._pid
    assert _gone(pid)


def test_a_bad_model_is_no_model_to_wait_for(classifier_copy: Path) -> None:
    (classifier_copy / "saved_model.pb").write_bytes(b"\x00garbage")
    with serving_candidate(classifier_copy, fork=False) as server:
        with pytest.raises(ServingError, match=r"the server did not start: Failed to start server\. .*holds no graph"):
            server.wait()
        pid = server._pid
    assert _gone(pid)
