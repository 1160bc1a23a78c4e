"""The messages of TensorFlow Serving that clients and servers of this house exchange.

Comes in: nothing. Goes out: message classes whose bytes are those of TensorFlow Serving's messages of the same name.
Used by the tensor codec, the clients, the traffic controller and the gRPC front.

Field numbers are those of `tensorflow/serving/apis/*.proto`, `tensorflow_serving/config/*.proto` and of TensorFlow's
`tensor.proto`, `tensor_shape.proto` and `meta_graph.proto`. Where it saves work, a field has another type with the same
bytes: an enum is an int32; an Example that is only passed on is bytes; packed numbers of a tensor are bytes, which
numpy reads at once. Fields left out here travel along as unknown fields.
"""

from __future__ import annotations

from typing import Any

from serving.wire.schema import message_classes

_TABLE = """
Dim
  size 1 int64
  name 2 string
TensorShapeProto
  dim 2 *Dim
  unknown_rank 3 bool
TensorProto
  dtype 1 int32
  tensor_shape 2 TensorShapeProto
  version_number 3 int32
  tensor_content 4 bytes
  float_val 5 *bytes
  double_val 6 *bytes
  int_val 7 *bytes
  string_val 8 *bytes
  scomplex_val 9 *bytes
  int64_val 10 *bytes
  bool_val 11 *bytes
  dcomplex_val 12 *bytes
  half_val 13 *bytes
  uint32_val 16 *bytes
  uint64_val 17 *bytes
TypedTensorProto
  dtype 1 int32
  tensor_shape 2 TensorShapeProto
  version_number 3 int32
  tensor_content 4 bytes
  float_val 5 *float
  double_val 6 *double
  int_val 7 *int32
  string_val 8 *bytes
  scomplex_val 9 *float
  int64_val 10 *int64
  bool_val 11 *bool
  dcomplex_val 12 *double
  half_val 13 *int32
  uint32_val 16 *uint32
  uint64_val 17 *uint64
Int64Value
  value 1 int64
Any
  type_url 1 string
  value 2 bytes
ModelSpec
  name 1 string
  version 2 Int64Value version_choice
  version_label 4 string version_choice
  signature_name 3 string
PredictRequest
  model_spec 1 ModelSpec
  inputs 2 {string: TensorProto}
  output_filter 3 *string
PredictResponse
  model_spec 2 ModelSpec
  outputs 1 {string: TensorProto}
ExampleList
  examples 1 *bytes
ExampleListWithContext
  examples 1 *bytes
  context 2 bytes
Input
  example_list 1 ExampleList kind
  example_list_with_context 2 ExampleListWithContext kind
Class
  label 1 string
  score 2 float
Classifications
  classes 1 *Class
ClassificationResult
  classifications 1 *Classifications
ClassificationRequest
  model_spec 1 ModelSpec
  input 2 Input
ClassificationResponse
  model_spec 2 ModelSpec
  result 1 ClassificationResult
Regression
  value 1 float
RegressionResult
  regressions 1 *Regression
RegressionRequest
  model_spec 1 ModelSpec
  input 2 Input
RegressionResponse
  model_spec 2 ModelSpec
  result 1 RegressionResult
InferenceTask
  model_spec 1 ModelSpec
  method_name 2 string
InferenceResult
  model_spec 1 ModelSpec
  classification_result 2 ClassificationResult result
  regression_result 3 RegressionResult result
MultiInferenceRequest
  tasks 1 *InferenceTask
  input 2 Input
MultiInferenceResponse
  results 1 *InferenceResult
TensorInfo
  name 1 string encoding
  dtype 2 int32
  tensor_shape 3 TensorShapeProto
SignatureDef
  inputs 1 {string: TensorInfo}
  outputs 2 {string: TensorInfo}
  method_name 3 string
SignatureDefMap
  signature_def 1 {string: SignatureDef}
GetModelMetadataRequest
  model_spec 1 ModelSpec
  metadata_field 2 *string
GetModelMetadataResponse
  model_spec 1 ModelSpec
  metadata 2 {string: Any}
StatusProto
  error_code 1 int32
  error_message 2 string
ModelVersionStatus
  version 1 int64
  state 2 int32
  status 3 StatusProto
GetModelStatusRequest
  model_spec 1 ModelSpec
GetModelStatusResponse
  model_version_status 1 *ModelVersionStatus
Latest
  num_versions 1 uint32
All
Specific
  versions 1 *int64
ServableVersionPolicy
  latest 100 Latest policy_choice
  all 101 All policy_choice
  specific 102 Specific policy_choice
LogCollectorConfig
  type 1 string
  filename_prefix 2 string
SamplingConfig
  sampling_rate 1 double
  attributes 2 int32
LoggingConfig
  log_collector_config 1 LogCollectorConfig
  sampling_config 2 SamplingConfig
ModelConfig
  name 1 string
  base_path 2 string
  model_platform 4 string
  model_version_policy 7 ServableVersionPolicy
  version_labels 8 {string: int64}
  logging_config 6 LoggingConfig
ModelConfigList
  config 1 *ModelConfig
ModelServerConfig
  model_config_list 1 ModelConfigList config
  custom_model_config 2 Any config
ReloadConfigRequest
  config 1 ModelServerConfig
  metric_names 2 *string
Metric
  name 1 string
  int64_value_increase 2 int64 value_increase
ReloadConfigResponse
  status 1 StatusProto
  metric 2 *Metric
LogMetadata
  model_spec 1 ModelSpec
  sampling_config 2 SamplingConfig
  saved_model_tags 3 *string
  timestamp_secs 4 int64
ClassifyLog
  request 1 ClassificationRequest
  response 2 ClassificationResponse
RegressLog
  request 1 RegressionRequest
  response 2 RegressionResponse
PredictLog
  request 1 PredictRequest
  response 2 PredictResponse
MultiInferenceLog
  request 1 MultiInferenceRequest
  response 2 MultiInferenceResponse
PredictionLog
  log_metadata 1 LogMetadata
  classify_log 2 ClassifyLog log_type
  regress_log 3 RegressLog log_type
  multi_inference_log 4 MultiInferenceLog log_type
  predict_log 6 PredictLog log_type
HealthCheckRequest
  service 1 string
HealthCheckResponse
  status 1 int32
"""

_classes = message_classes("slipway.wire", _TABLE)

TensorShapeProto: Any = _classes["TensorShapeProto"]
TensorProto: Any = _classes["TensorProto"]
TypedTensorProto: Any = _classes["TypedTensorProto"]
ModelSpec: Any = _classes["ModelSpec"]
PredictRequest: Any = _classes["PredictRequest"]
PredictResponse: Any = _classes["PredictResponse"]
ClassificationRequest: Any = _classes["ClassificationRequest"]
ClassificationResponse: Any = _classes["ClassificationResponse"]
ClassificationResult: Any = _classes["ClassificationResult"]
RegressionRequest: Any = _classes["RegressionRequest"]
RegressionResponse: Any = _classes["RegressionResponse"]
RegressionResult: Any = _classes["RegressionResult"]
MultiInferenceRequest: Any = _classes["MultiInferenceRequest"]
MultiInferenceResponse: Any = _classes["MultiInferenceResponse"]
GetModelMetadataRequest: Any = _classes["GetModelMetadataRequest"]
GetModelMetadataResponse: Any = _classes["GetModelMetadataResponse"]
SignatureDefMap: Any = _classes["SignatureDefMap"]
GetModelStatusRequest: Any = _classes["GetModelStatusRequest"]
GetModelStatusResponse: Any = _classes["GetModelStatusResponse"]
ModelServerConfig: Any = _classes["ModelServerConfig"]
ReloadConfigRequest: Any = _classes["ReloadConfigRequest"]
ReloadConfigResponse: Any = _classes["ReloadConfigResponse"]
PredictionLog: Any = _classes["PredictionLog"]
HealthCheckRequest: Any = _classes["HealthCheckRequest"]
HealthCheckResponse: Any = _classes["HealthCheckResponse"]
