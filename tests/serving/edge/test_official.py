"""What others make of a bundle: the official reader of metadata, LiteRT, and a C++ compiler."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serving.edge.samples import Expected
from serving.edge.verify import verify_bundle
from tests.serving.edge import environments

_DISPLAY = """
import json, sys
from tflite_support import metadata
shown = metadata.MetadataDisplayer.with_model_file(sys.argv[1])
files = {name: shown.get_associated_file_buffer(name).decode() for name in shown.get_packed_associated_file_list()}
print(json.dumps({"metadata": json.loads(shown.get_metadata_json()), "files": files}))
"""


def _run(*command: object, **options: object) -> str:
    line = list(map(str, command))
    done = subprocess.run(line, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stderr[-2000:]
    return str(done.stdout)


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["model_float16.tflite", "model_int8.tflite"])
def test_the_official_reader_of_metadata(bundle: Path, name: str) -> None:
    python = environments.python_with(environments.TFLITE_SUPPORT)
    probe = subprocess.run([python, "-c", "import tflite_support"], capture_output=True, text=True, check=False)
    if "libusb" in probe.stderr:
        pytest.skip("tflite-support needs libusb-1.0; `make programs` installs it")
    shown = json.loads(_run(python, "-c", _DISPLAY, bundle / name))
    assert shown["files"] == {"labels.txt": "cat\ndog\nowl\n"}
    (graph,) = shown["metadata"]["subgraph_metadata"]
    ((image,), (scores,)) = graph["input_tensor_metadata"], graph["output_tensor_metadata"]
    assert image["content"]["content_properties"]["color_space"] == "RGB"
    assert image["process_units"][0]["options"] == {"mean": [0.0], "std": [255.0]}
    assert image["stats"] == {"max": [1.0], "min": [0.0]}
    assert (image["name"], scores["name"]) == ("image", "probabilities")
    assert scores["associated_files"][0]["type"] == "TENSOR_AXIS_LABELS"
    assert (shown["metadata"]["name"], shown["metadata"]["version"]) == ("pets", "7")


@pytest.mark.e2e
@pytest.mark.parametrize("name", ["model_float16.tflite", "model_int8.tflite"])
def test_the_python_example_with_the_runtime_of_mobile_teams(bundle: Path, name: str) -> None:
    python = environments.python_with(environments.LITERT)
    expected = Expected.from_json((bundle / "samples/expected.json").read_text())
    images = [bundle / "samples" / sample.image for sample in expected.samples]
    lines = _run(python, bundle / "examples/python/classify.py", bundle / name, *images).splitlines()
    card = json.loads((bundle / "model_card.json").read_text())
    (tolerance,) = (file["tolerance"] for file in card["files"] if file["path"] == name)
    for line, image, sample in zip(lines, images, expected.samples, strict=True):
        path, label, probability = line.split("\t")
        answer = sample.answers[name]
        assert path == str(image)
        assert label == card["labels"][int(np.argmax(answer))]
        assert float(probability) == pytest.approx(max(answer), abs=tolerance)


@pytest.mark.e2e
def test_verify_where_only_litert_is_installed(bundle: Path) -> None:
    python = environments.python_with(environments.LITERT)
    environment = {**os.environ, "PYTHONPATH": str(environments.ROOT)}
    text = _run(python, "-m", "serving.edge", "verify", bundle, env=environment)
    assert "2 files give the expected answers to 3 samples with ai_edge_litert" in text
    assert not any(finding.status == "failed" for finding in verify_bundle(bundle, runtime="none"))


def test_the_python_example_resizes_as_training_does(bundle: Path, tmp_path: Path) -> None:
    from transform.images import resize

    pixels = np.random.default_rng(0).integers(0, 256, (37, 21, 3), dtype=np.uint8)
    size, box = (8, 8), (0, 0, 21, 37)
    ours = Image.fromarray(pixels).transform(size, Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)
    text = (bundle / "examples/python/classify.py").read_text()
    assert "transform((width, height), Image.Transform.EXTENT, box, Image.Resampling.BILINEAR)" in text
    difference = np.abs(np.asarray(ours).astype(int) - resize(pixels, 8, 8).numpy().astype(int))
    assert difference.max() <= 1


# As much of TensorFlow Lite's interface as the example uses; the compiler checks the example against it.
_HEADERS = {
    "interpreter.h": """
#pragma once
#include <cstddef>
#include <cstdint>
enum TfLiteStatus { kTfLiteOk = 0, kTfLiteError = 1 };
enum TfLiteType { kTfLiteFloat32 = 1, kTfLiteUInt8 = 3 };
struct TfLiteQuantizationParams { float scale; int32_t zero_point; };
struct TfLiteTensor { TfLiteType type; TfLiteQuantizationParams params; size_t bytes; };
namespace tflite {
class Interpreter {
 public:
  TfLiteStatus AllocateTensors();
  TfLiteStatus Invoke();
  TfLiteTensor* input_tensor(size_t index);
  const TfLiteTensor* output_tensor(size_t index) const;
  template <class T> T* typed_input_tensor(int index);
  template <class T> const T* typed_output_tensor(int index) const;
};
}
""",
    "kernels/register.h": """
#pragma once
namespace tflite { namespace ops { namespace builtin { class BuiltinOpResolver {}; } } }
""",
    "model_builder.h": """
#pragma once
#include <memory>
#include "tensorflow/lite/interpreter.h"
#include "tensorflow/lite/kernels/register.h"
namespace tflite {
class FlatBufferModel {
 public:
  static std::unique_ptr<FlatBufferModel> VerifyAndBuildFromFile(const char* filename);
};
class InterpreterBuilder {
 public:
  InterpreterBuilder(const FlatBufferModel& model, const ops::builtin::BuiltinOpResolver& resolver);
  TfLiteStatus operator()(std::unique_ptr<Interpreter>* interpreter);
};
}
""",
}


def test_the_cpp_example_is_valid(bundle: Path, tmp_path: Path) -> None:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("no C++ compiler is installed")
    for name, text in _HEADERS.items():
        path = tmp_path / "tensorflow/lite" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    source = bundle / "examples/cpp/classify.cc"
    _run(compiler, "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{tmp_path}", source)
