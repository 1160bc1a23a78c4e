"""A small specification by hand: container -> condition -> container, with an importer and a resolver beside them."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import pytest

MODULE = textwrap.dedent(
    '''
    """What the containers of the tests run: writes its call beside its outputs, and what it was told to."""
    import json, os, sys, time
    from pipeline.mounts import local_path

    call = json.loads(sys.argv[1])
    values = call["inputs"].get("parameterValues", call["inputs"].get("parameters", {}))
    if "fail" in values:
        sys.exit("slipway: it was told to fail")
    if "refuse" in values:
        print("slipway: Gate: it was told to refuse", file=sys.stderr)
        sys.exit(3)
    if "hang" in values:
        time.sleep(600)
    answer = {"artifacts": {}, "parameterValues": {"number": 7}}
    for key, listed in call["outputs"]["artifacts"].items():
        (artifact,) = listed["artifacts"]
        os.makedirs(local_path(artifact["uri"]), exist_ok=True)
        with open(os.path.join(local_path(artifact["uri"]), "call.json"), "w") as file:
            json.dump({"call": call, "arguments": sys.argv[2:]}, file)
        answer["artifacts"][key] = {"artifacts": [{"metadata": {"blessed": float(os.environ.get("BLESSED", "1"))}}]}
    if "silent" not in values:
        path = local_path(call["outputs"]["outputFile"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            json.dump(answer, file)
    '''
)
MODEL = {"instanceSchema": "title: tfx.Model\ntype: object\n"}
BLESSING = {"instanceSchema": "title: tfx.ModelBlessing\ntype: object\n"}


def container(*more: str) -> dict[str, Any]:
    return {"container": {"image": "host/p/i:1", "command": ["python", "-m", "stage_of_a_test"], "args": list(more)}}


def value(constant: Any) -> dict[str, Any]:
    return {"runtimeValue": {"constant": constant}}


def reads(task: str, key: str) -> dict[str, Any]:
    return {"taskOutputArtifact": {"producerTask": task, "outputArtifactKey": key}}


def small_job() -> dict[str, Any]:
    text = {"parameterType": "STRING"}
    components = {
        "train": {
            "executorLabel": "e_train",
            "inputDefinitions": {
                "artifacts": {"base": {"artifactType": MODEL}},
                "parameters": {"folder": text, "span": {"parameterType": "NUMBER_INTEGER"}},
            },
            "outputDefinitions": {
                "artifacts": {"model": {"artifactType": MODEL}},
                "parameters": {"number": {"parameterType": "NUMBER_INTEGER"}},
            },
        },
        "judge": {
            "executorLabel": "e_judge",
            "inputDefinitions": {
                "artifacts": {"model": {"artifactType": MODEL}},
                "parameters": {"number": {"parameterType": "NUMBER_INTEGER"}},
            },
            "outputDefinitions": {"artifacts": {"blessing": {"artifactType": BLESSING}}},
        },
        "push": {
            "executorLabel": "e_push",
            "inputDefinitions": {"artifacts": {"blessing": {"artifactType": BLESSING}}},
            "outputDefinitions": {"artifacts": {"pushed": {"artifactType": MODEL}}},
        },
        "tell": {"executorLabel": "e_tell", "outputDefinitions": {"artifacts": {"told": {"artifactType": MODEL}}}},
        "import": {"executorLabel": "e_import", "outputDefinitions": {"artifacts": {"base": {"artifactType": MODEL}}}},
        "latest": {
            "executorLabel": "e_latest",
            "outputDefinitions": {"artifacts": {"blessing": {"artifactType": BLESSING}}},
        },
    }
    query = 'schema_title="tfx.ModelBlessing" AND state=LIVE AND metadata.blessed.number_value=1'
    condition = "(inputs.artifacts['blessing'].artifacts[0].metadata['blessed'] == 1.0)"
    return {
        "displayName": "small",
        "labels": {"tfx_version": "1-16-0"},
        "runtimeConfig": {"gcsOutputDirectory": "gs://bucket/small", "parameterValues": {"span": 3}},
        "pipelineSpec": {
            "schemaVersion": "2.1.0",
            "pipelineInfo": {"name": "small"},
            "components": components,
            "deploymentSpec": {
                "executors": {
                    "e_train": container("{{$}}", "--folder={{$.inputs.parameters['folder']}}"),
                    "e_judge": container("{{$}}", "{{$.inputs.artifacts['model'].uri}}"),
                    "e_push": container("{{$}}"),
                    "e_tell": container("{{$}}"),
                    "e_import": {
                        "importer": {"artifactUri": {"constant": "gs://bucket/old"}, "typeSchema": MODEL},
                    },
                    "e_latest": {"resolver": {"outputArtifactQueries": {"blessing": {"filter": query}}}},
                }
            },
            "root": {
                "inputDefinitions": {"parameters": {"span": {"parameterType": "NUMBER_INTEGER"}}},
                "dag": {
                    "tasks": {
                        "import": {"componentRef": {"name": "import"}, "taskInfo": {"name": "import"}},
                        "latest": {"componentRef": {"name": "latest"}, "taskInfo": {"name": "latest"}},
                        "train": {
                            "componentRef": {"name": "train"},
                            "dependentTasks": ["import"],
                            "cachingOptions": {"enableCache": True},
                            "inputs": {
                                "artifacts": {"base": reads("import", "base")},
                                "parameters": {
                                    "folder": value("/gcs/bucket/served"),
                                    "span": {"componentInputParameter": "span"},
                                },
                            },
                        },
                        "judge": {
                            "componentRef": {"name": "judge"},
                            "inputs": {
                                "artifacts": {"model": reads("train", "model")},
                                "parameters": {
                                    "number": {
                                        "taskOutputParameter": {
                                            "producerTask": "train",
                                            "outputParameterKey": "number",
                                        }
                                    }
                                },
                            },
                        },
                        "push": {
                            "componentRef": {"name": "push"},
                            "inputs": {"artifacts": {"blessing": reads("judge", "blessing")}},
                            "triggerPolicy": {"condition": condition},
                        },
                        "tell": {"componentRef": {"name": "tell"}, "dependentTasks": ["push"]},
                    }
                },
            },
        },
    }


@pytest.fixture
def job() -> dict[str, Any]:
    return json.loads(json.dumps(small_job()))


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put the module of the containers where they find it."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "stage_of_a_test.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    return tmp_path
