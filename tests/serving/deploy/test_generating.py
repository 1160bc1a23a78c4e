"""Tests of the deployment files with the tools that read them: Kubernetes' schemas, compose, hadolint, promtool."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
from compose_spec import PyCompose
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from serving.deploy import generating
from serving.deploy.generating import RECORD, generate
from serving.deploy.settings import settings
from serving.errors import ServingError
from serving.gateway import config_file
from serving.proxy import envoy
from serving.server.config.files import read_batching, read_monitoring
from serving.server.config.models import read_model_config_file
from serving.traffic.settings import load_settings

KUBERNETES = "1.31"
PINNED = re.compile(r":v?[0-9][^:]*$|:distroless-v[0-9.]+$")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("deployment")
    generate(settings(name="Fashion_MNIST", host="shop.example.org"), folder)
    return folder


def documents(path: Path) -> list[Any]:
    return list(YAML(typ="safe", pure=True).load_all(path.read_text()))


def program(name: str) -> str:
    found = shutil.which(name, path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if found is None:
        pytest.skip(f"{name} is not installed; `make programs` installs it")
    return found


def run(*command: str | Path) -> str:
    outcome = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120)
    assert outcome.returncode == 0, outcome.stdout + outcome.stderr
    return outcome.stdout + outcome.stderr


class TestKubernetes:
    def test_every_object_fits_its_schema(self, deployment: Path) -> None:
        kinds = set()
        for path in sorted((deployment / "kubernetes/base").glob("*.yaml")):
            if path.name in ("kustomization.yaml", "gateway-settings.yaml"):
                continue
            for document in documents(path):
                kubernetes_validate.validate(document, KUBERNETES, strict=True)
                kinds.add(document["kind"])
        assert {"Deployment", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy", "Ingress"} <= kinds

    def test_kustomizations_name_files_that_exist(self, deployment: Path) -> None:
        found = list((deployment / "kubernetes").rglob("kustomization.yaml"))
        assert len(found) == 3
        for path in found:
            [content] = documents(path)
            named = [*content["resources"], *(patch["path"] for patch in content.get("patches", []))]
            named += [file for entry in content.get("configMapGenerator", []) for file in entry["files"]]
            for name in named:
                assert (path.parent / name).exists(), f"{path}: {name}"

    def test_patches_hit_what_the_base_has(self, deployment: Path) -> None:
        server = documents(deployment / "kubernetes/base/server.yaml")[0]
        for path in (deployment / "kubernetes/overlays").glob("*/*.yaml"):
            if path.name == "kustomization.yaml":
                continue
            for operation in documents(path)[0]:
                place: Any = server
                for step in operation["path"].strip("/").split("/")[:-1]:
                    place = place[int(step) if isinstance(place, list) else step]
                if operation["op"] == "replace":
                    assert operation["path"].rsplit("/", 1)[1] in place

    def test_selectors_match_the_pods(self, deployment: Path) -> None:
        objects = [d for p in (deployment / "kubernetes/base").glob("*.yaml") for d in documents(p) if "kind" in d]
        pods = [
            o["spec"]["template"]["metadata"]["labels"] for o in objects if o["kind"] in ("Deployment", "StatefulSet")
        ]
        services = [o["spec"]["selector"] for o in objects if o["kind"] == "Service"]
        budgets = [o["spec"]["selector"]["matchLabels"] for o in objects if o["kind"] == "PodDisruptionBudget"]
        policies = [o["spec"]["podSelector"].get("matchLabels", {}) for o in objects if o["kind"] == "NetworkPolicy"]
        assert services and budgets and policies
        for selector in [*services, *budgets, *policies]:
            assert any(selector.items() <= labels.items() for labels in pods), selector

    def test_no_pod_runs_as_root_or_writes_to_its_image(self, deployment: Path) -> None:
        for path in (deployment / "kubernetes/base").glob("*.yaml"):
            for document in documents(path):
                if document.get("kind") not in ("Deployment", "StatefulSet"):
                    continue
                pod = document["spec"]["template"]["spec"]
                assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] > 0
                for container in pod["containers"]:
                    assert container["securityContext"]["readOnlyRootFilesystem"]
                    assert container["resources"]["limits"]["memory"]
                    assert PINNED.search(container["image"]), container["image"]

    def test_kserve(self, deployment: Path) -> None:
        [service] = documents(deployment / "kserve/inferenceservice.yaml")
        assert service["kind"] == "InferenceService"
        assert service["metadata"]["name"] == "fashion-mnist"
        assert service["spec"]["predictor"]["tensorflow"]["runtimeVersion"] == "2.16.1"


def interpolated(path: Path) -> dict[str, Any]:
    """Fill variables as compose does."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", path.read_text())
    text = re.sub(r"\$\{\w+(:\?[^}]*)?\}", "/set", text)
    return YAML(typ="safe", pure=True).load(text)


class TestCompose:
    @pytest.mark.parametrize("name", ["compose.yaml", "compose.embedded.yaml"])
    def test_compose_reads_it(self, deployment: Path, name: str) -> None:
        PyCompose.from_json(json.dumps(interpolated(deployment / "compose" / name)))

    def test_mounted_files_exist(self, deployment: Path) -> None:
        content = interpolated(deployment / "compose/compose.yaml")
        mounted = {v.split(":")[0] for s in content["services"].values() for v in s.get("volumes", [])}
        files = {name for name in mounted if name.startswith(".") and name != "./served"}
        assert files
        assert [name for name in files if not (deployment / "compose" / name).exists()] == []
        volumes = {name for name in mounted if not name.startswith(".")}
        assert volumes <= set(content["volumes"])

    def test_nothing_but_loopback_is_published(self, deployment: Path) -> None:
        services = interpolated(deployment / "compose/compose.yaml")["services"]
        ports = [port for service in services.values() for port in service.get("ports", [])]
        assert ports and all(port.startswith("127.0.0.1:") for port in ports)

    def test_images_are_pinned(self, deployment: Path) -> None:
        services = interpolated(deployment / "compose/compose.yaml")["services"]
        assert [s["image"] for s in services.values() if not PINNED.search(s["image"])] == []


class TestSettingsOfTheParts:
    """What the containers are told is read by the code that will read it there."""

    @pytest.mark.parametrize("path", ["compose/gateway.yaml", "kubernetes/base/gateway-settings.yaml"])
    def test_gateway(self, deployment: Path, path: str) -> None:
        found = config_file.load(deployment / path)
        assert found.upstream.model == "Fashion_MNIST"
        assert found.jobs.queue == "redis"

    def test_traffic(self, deployment: Path) -> None:
        assert load_settings(deployment / "compose/traffic.yaml").state_dir == Path("/state/traffic")

    def test_model_server(self, deployment: Path) -> None:
        base = deployment / "kubernetes/base"
        assert read_batching(str(base / "batching.config")).max_batch_size == 32
        assert read_monitoring(str(base / "monitoring.config")) == "/monitoring/prometheus/metrics"
        [config] = read_model_config_file(str(base / "models.config")).model_config_list.config
        assert (config.name, config.base_path) == ("Fashion_MNIST", "/models")

    def test_envoy(self, deployment: Path, tmp_path: Path) -> None:
        inside = tmp_path / "envoy"
        shutil.copytree(deployment / "compose/envoy", inside)
        bootstrap = inside / "envoy.yaml"
        bootstrap.write_text(bootstrap.read_text().replace("/etc/envoy", str(inside)))
        envoy.validate(bootstrap)


class TestImages:
    def test_hadolint(self, deployment: Path) -> None:
        files = sorted((deployment / "docker").glob("*.Dockerfile"))
        assert len(files) == 3
        for path in files:
            run(program("hadolint"), path)

    def test_they_copy_what_a_clone_has(self, deployment: Path) -> None:
        root = Path(__file__).parents[3]
        for path in (deployment / "docker").glob("*.Dockerfile"):
            for line in path.read_text().splitlines():
                if line.startswith("COPY ") and "--from" not in line:
                    for source in line.split()[1:-1]:
                        assert (root / source).exists(), f"{path.name}: {source}"


class TestMonitoring:
    def test_prometheus(self, deployment: Path) -> None:
        run(program("promtool"), "check", "config", deployment / "monitoring/prometheus.yml")

    def test_alertmanager(self, deployment: Path) -> None:
        run(program("amtool"), "check-config", deployment / "monitoring/alertmanager.yml")


class TestWriting:
    def test_twice_writes_nothing_new(self, tmp_path: Path) -> None:
        first = generate(settings(name="a"), tmp_path)
        second = generate(settings(name="a"), tmp_path)
        assert len(first.written) > 20
        assert second.written == () and set(second.unchanged) == set(first.written)

    def test_what_was_changed_by_hand_stays(self, tmp_path: Path) -> None:
        generate(settings(name="a"), tmp_path)
        changed = tmp_path / "monitoring/alertmanager.yml"
        changed.write_text(changed.read_text() + "# ours\n")
        with pytest.raises(ServingError, match=r"alertmanager\.yml.*changed since.*--force"):
            generate(settings(name="b"), tmp_path)
        assert "# ours" in changed.read_text()
        assert "name: a\n" in (tmp_path / "compose/compose.yaml").read_text()
        generate(settings(name="b"), tmp_path, force=True)
        assert "# ours" not in changed.read_text()

    def test_a_file_of_somebody_else_stays(self, tmp_path: Path) -> None:
        (tmp_path / "README.md").write_text("mine")
        with pytest.raises(ServingError, match=r"README\.md"):
            generate(settings(name="a"), tmp_path)
        assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == ["README.md"]

    def test_files_that_are_no_longer_made_go(self, tmp_path: Path) -> None:
        generate(settings(name="a"), tmp_path)
        record = json.loads((tmp_path / RECORD).read_text())
        (tmp_path / "old.yaml").write_text("x")
        record["files"]["old.yaml"] = [generating._digest(b"x")]
        (tmp_path / RECORD).write_text(json.dumps(record))
        assert generate(settings(name="a"), tmp_path).removed == ("old.yaml",)
        assert not (tmp_path / "old.yaml").exists()

    @pytest.mark.parametrize("after", [0, 1, 5, 9])
    def test_ended_half_way(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
        generate(settings(name="a"), tmp_path)
        real, count = generating.write_durably, 0

        def dies(path: Path, text: str) -> None:
            nonlocal count
            if count >= after:
                raise KeyboardInterrupt
            count += 1
            real(path, text)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(generating, "write_durably", dies)
            generate(settings(name="b"), tmp_path)
        generate(settings(name="c"), tmp_path)
        assert "name: c\n" in (tmp_path / "compose/compose.yaml").read_text()

    @pytest.mark.parametrize("record", ["", "[]", '{"files": 3}', '{"files": {"../../x": ["1"]}}'])
    def test_a_damaged_record_overwrites_nothing(self, tmp_path: Path, record: str) -> None:
        generate(settings(name="a"), tmp_path)
        (tmp_path / RECORD).write_text(record)
        with pytest.raises(ServingError, match="changed since"):
            generate(settings(name="b"), tmp_path)

    def test_a_folder_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "README.md").mkdir()
        with pytest.raises(ServingError, match=r"README\.md is a folder"):
            generate(settings(name="a"), tmp_path)

    def test_a_file_in_the_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("x")
        with pytest.raises(ServingError, match="cannot be written"):
            generate(settings(name="a"), tmp_path / "out")


class TestSettings:
    @pytest.mark.parametrize(
        ("values", "said"),
        [
            ({"name": "a b"}, "name"),
            ({"name": "a", "namespace": "Nope"}, "namespace"),
            ({"name": "a", "replicas": 5, "max_replicas": 2}, "max_replicas is 2; expected 5"),
            ({"name": "a", "host": "a b.org"}, "host"),
            ({"name": "a", "server_image": "nginx"}, "server_image"),
            ({"name": "a", "models": "x:y"}, "models"),
            ({"name": "a", "colour": 1}, "colour"),
            ({"name": "___"}, "name"),
        ],
    )
    def test_refused(self, values: dict[str, Any], said: str) -> None:
        with pytest.raises(ServingError, match=said):
            settings(**values)

    @given(name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", fullmatch=True))
    def test_any_model_name_gives_a_valid_object_name_or_is_refused(self, name: str) -> None:
        try:
            slug = settings(name=name).slug
        except ServingError:
            return
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", slug) and len(slug) <= 53
