// Classifies raw pixels with a file of this bundle:
//   classify model_int8.tflite labels.txt pixels.rgb
// pixels.rgb holds height * width * channels bytes, row by row, in the size of the model.
//
// Link with TensorFlow Lite (CMake target tensorflow-lite).

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "tensorflow/lite/interpreter.h"
#include "tensorflow/lite/kernels/register.h"
#include "tensorflow/lite/model_builder.h"

namespace {

class Classifier {
 public:
  explicit Classifier(const char* path)
      : model_(tflite::FlatBufferModel::VerifyAndBuildFromFile(path)) {
    if (!model_) return;
    tflite::ops::builtin::BuiltinOpResolver resolver;
    if (tflite::InterpreterBuilder(*model_, resolver)(&interpreter_) != kTfLiteOk) return;
    ready_ = interpreter_->AllocateTensors() == kTfLiteOk;
  }

  bool ready() const { return ready_; }

  // Probability of each class; empty if there are too few pixels or the model fails.
  std::vector<float> Classify(const std::vector<uint8_t>& pixels) {
    const TfLiteTensor* input = interpreter_->input_tensor(0);
    const bool is_float = input->type == kTfLiteFloat32;
    const size_t count = is_float ? input->bytes / sizeof(float) : input->bytes;
    if (pixels.size() != count) return {};
    if (is_float) {
      std::transform(pixels.begin(), pixels.end(), interpreter_->typed_input_tensor<float>(0),
                     [](uint8_t pixel) { return pixel / 255.0f; });
    } else {
      std::copy(pixels.begin(), pixels.end(), interpreter_->typed_input_tensor<uint8_t>(0));
    }
    if (interpreter_->Invoke() != kTfLiteOk) return {};

    const TfLiteTensor* output = interpreter_->output_tensor(0);
    if (output->type == kTfLiteFloat32) {
      const float* first = interpreter_->typed_output_tensor<float>(0);
      return {first, first + output->bytes / sizeof(float)};
    }
    const uint8_t* first = interpreter_->typed_output_tensor<uint8_t>(0);
    std::vector<float> probabilities(output->bytes);
    std::transform(first, first + output->bytes, probabilities.begin(), [&](uint8_t stored) {
      return output->params.scale * (stored - output->params.zero_point);
    });
    return probabilities;
  }

 private:
  std::unique_ptr<tflite::FlatBufferModel> model_;
  std::unique_ptr<tflite::Interpreter> interpreter_;
  bool ready_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: classify MODEL LABELS PIXELS\n";
    return 2;
  }
  Classifier classifier(argv[1]);
  if (!classifier.ready()) {
    std::cerr << argv[1] << " cannot be loaded\n";
    return 1;
  }
  std::vector<std::string> labels;
  std::ifstream lines(argv[2]);
  for (std::string line; std::getline(lines, line);) labels.push_back(line);

  std::ifstream file(argv[3], std::ios::binary);
  const std::vector<uint8_t> pixels{std::istreambuf_iterator<char>(file), {}};
  const std::vector<float> probabilities = classifier.Classify(pixels);
  if (probabilities.empty() || probabilities.size() > labels.size()) {
    std::cerr << "pixels, labels and model do not belong together\n";
    return 1;
  }
  const auto best = std::max_element(probabilities.begin(), probabilities.end());
  std::cout << labels[best - probabilities.begin()] << '\t' << *best << '\n';
}
