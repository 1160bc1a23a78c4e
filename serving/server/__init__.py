"""The embedded model server: the TensorFlow Serving contract, on a private Session per model version.

Comes in: published SavedModels and the command line of TensorFlow Serving. Goes out: answers over REST and gRPC.
Importing this package loads neither TensorFlow nor numpy.
"""
