"""The way from a YAML file and a data set to a judged and pushed model.

Here live the config, the graph of stages, the components around them, the runners and the command line; what
is done to data, models and bundles lives in `transform`, `trainer` and `serving`.
"""
