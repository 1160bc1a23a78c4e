"""The container image of the pipeline: everything that is needed to build it, in one folder."""
