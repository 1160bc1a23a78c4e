"""TensorFlow Serving's messages on the wire, without TensorFlow.

Comes in: arrays and the fields of a call. Goes out: bytes that TensorFlow Serving and its clients understand, and the
other way round. Used by the clients, the gateway, the traffic controller and the gRPC front of the model server.
Importing this package loads neither protobuf nor numpy.
"""
