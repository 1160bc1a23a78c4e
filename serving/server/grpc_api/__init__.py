"""The gRPC API of TensorFlow Serving.

Comes in: calls of PredictionService, ModelService and the health service. Goes out: their answers. Started by the model
server; importing this package loads neither gRPC nor protobuf.
"""
