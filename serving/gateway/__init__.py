"""The gateway: pictures from browsers and programs in, answers of a model server with names and versions out.

Stands in front of `serving.server` or TensorFlow Serving and needs the extra `gateway`, no TensorFlow. Started by
`python -m serving.gateway`; `app.build_app` is the composition.
"""
