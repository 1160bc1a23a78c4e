"""REST API of TensorFlow Serving: HTTP requests in, JSON answers out."""
