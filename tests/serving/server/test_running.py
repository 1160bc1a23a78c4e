"""The command line of the server, as far as it goes without a model, and the parts that greet and measure."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from serving.publish import publish
from serving.server import gauges
from serving.server.config.flags import parse
from serving.server.config.settings import LifecycleSettings, settings_from_flags
from serving.server.greeting import curl_line, reachable
from serving.server.lifecycle import source
from serving.server.lifecycle.manager import ModelManager
from serving.server.metrics import ServerMetrics
from serving.server.running import main, with_own_threads, with_rollout
from serving.signature import Signature, TensorSpec
from tests.serving.server.lifecycle.fakes import FakeLoader, add_version
from tests.serving.server.waiting import eventually

_ROOT = Path(__file__).resolve().parents[3]


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--port=1", "--help"]) == 0
    assert "Flags of Slipway:" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("TensorFlow ModelServer: 2.16.1 (contract honored by slipway ")
    assert lines[1] == "TensorFlow Library: 2.16.2"


def test_mistakes_end_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--prot=1"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown flag --prot; did you mean --port?")


def test_mistakes_are_told_without_importing_tensorflow() -> None:
    code = (
        "import sys; from serving.server.running import main; assert main(['--engine=x']) == 2;"
        "sys.exit(any(name.partition('.')[0] in ('tensorflow', 'grpc') for name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_manual_rollout_pins_the_version_in_service(tmp_path: Path, plain_model: Path) -> None:
    base = tmp_path / "served"
    first = publish(plain_model, base, name="pets")
    flags = parse(["--rollout=manual", "--model_name=pets", f"--model_base_path={base}", "--rest_api_port=8501"])
    settings = settings_from_flags(with_rollout(flags))
    assert settings.model_config_file is not None and settings.config_poll_seconds == 1
    assert settings.model_config_file.is_relative_to(base / ".slipway" / "traffic")
    assert settings.lifecycle.labels_for_unavailable
    model = settings.models.model_config_list.config[0]
    assert (model.name, model.base_path) == ("pets", str(base))
    assert list(model.model_version_policy.specific.versions) == [first.number]
    assert model.version_labels["stable"] == first.number
    elsewhere = with_rollout(parse([*(f"--{n}={v}" for n, v in flags.given.items()), f"--state_dir={tmp_path / 's'}"]))
    assert str(elsewhere["model_config_file"]).startswith(str(tmp_path / "s"))


def test_a_manual_rollout_without_a_base_path(tmp_path: Path) -> None:
    file = tmp_path / "models"
    file.write_text("")
    # In a process of its own: a server that has got so far leaves but a part of TensorFlow to the process.
    done = subprocess.run(
        [sys.executable, "-m", "serving.server", "--rollout=manual", f"--model_config_file={file}"],
        cwd=_ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2
    assert "error: --rollout=manual keeps a model config file of its own" in done.stderr


def own_threads(monkeypatch: pytest.MonkeyPatch, models: int, *more: str, cores: int = 2) -> tuple[bool, str | None]:
    """Whether models may be paired, and what the variable that TensorFlow reads is set to."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    settings = settings_from_flags(parse(["--model_base_path=/models/a", "--rest_api_port=8501", *more]))
    for number in range(1, models):
        settings.models.model_config_list.config.add(name=f"model{number}", base_path=f"/models/{number}")
    return with_own_threads(settings).load.pair, os.environ.get("TF_OVERRIDE_GLOBAL_THREADPOOL")


def test_a_few_models_get_threads_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_OVERRIDE_GLOBAL_THREADPOOL", "restored by pytest")
    for models, more, cores, expected in (
        (1, [], 2, True),
        (8, [], 2, True),
        (9, [], 2, False),
        (1, [], 1, False),
        (1, ["--tensorflow_intra_op_parallelism=2"], 2, False),
        (1, ["--tensorflow_inter_op_parallelism=2"], 2, False),
    ):
        monkeypatch.delenv("TF_OVERRIDE_GLOBAL_THREADPOOL", raising=False)
        assert own_threads(monkeypatch, models, *more, cores=cores) == (expected, "1" if expected else None)


@pytest.mark.parametrize("value", ["0", "false"])
def test_who_wants_one_pool_for_all_gets_it(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TF_OVERRIDE_GLOBAL_THREADPOOL", value)
    assert own_threads(monkeypatch, 1) == (False, value)


@pytest.mark.parametrize(
    ("host", "expected"),
    [("0.0.0.0", "localhost"), ("127.0.0.1", "127.0.0.1"), ("::", "localhost"), ("::1", "[::1]")],
)
def test_reachable(host: str, expected: str) -> None:
    assert reachable(host) == expected


def _signature(dtype: str) -> Signature:
    spec = TensorSpec("image", "x:0", dtype, (None,), np.dtype(object if dtype == "string" else "float32"))
    return Signature("serving_default", "tensorflow/serving/predict", {"image": spec}, {})


@pytest.fixture()
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    monkeypatch.setattr(source, "SETTLE_SECONDS", 0)
    from serving.server.config.models import single_model

    add_version(tmp_path / "m", 3)
    loader = FakeLoader()
    made = ModelManager(LifecycleSettings(poll_seconds=0), loader)
    made.start(single_model("my pets", str(tmp_path / "m")))
    assert made.wait_until_available(["my pets"], timeout_seconds=60) == ""
    made.loader = loader  # type: ignore[attr-defined]
    yield made
    made.stop()


def test_the_line_to_paste(manager: ModelManager) -> None:
    servable = manager.loader.servables["my pets", 3]  # type: ignore[attr-defined]
    assert curl_line(manager, "my pets", "http://h:1") == "curl http://h:1/v1/models/my%20pets"
    assert curl_line(manager, "gone", "http://h:1") == "curl http://h:1/v1/models/gone"
    servable.signatures = {"serving_default": _signature("float")}
    assert curl_line(manager, "my pets", "http://h:1") == "curl http://h:1/v1/models/my%20pets"
    servable.signatures = {"serving_default": _signature("string")}
    line = curl_line(manager, "my pets", "http://h:1")
    assert line.endswith("| curl -d @- http://h:1/v1/models/my%20pets:predict")
    make_body = line.replace("base64 -w0 IMAGE.png", "printf image | base64 -w0").rpartition("|")[0]
    body = subprocess.run(["bash", "-c", make_body], capture_output=True, text=True, check=True).stdout
    assert body == '{"instances": [{"b64": "aW1hZ2U="}]}'


def test_gauges(manager: ModelManager) -> None:
    metrics = ServerMetrics()
    metrics.collect_from(gauges.version_gauges(manager))
    batcher = SimpleNamespace(waiting_rows=lambda: {("pets", "serving_default"): 5})
    metrics.collect_from(gauges.queue_gauges(batcher))  # type: ignore[arg-type]
    text = metrics.exposition().decode()
    assert 'slipway_model_version_state{model_name="my pets",version="3",state="AVAILABLE"} 1' in text
    assert 'slipway_model_version_failing{model_name="my pets",version="3"} 0' in text
    assert 'slipway_queued_rows{model_name="pets",signature="serving_default"} 5' in text
    manager.stop()
    eventually(lambda: b"slipway_model_version_state{" not in metrics.exposition())
