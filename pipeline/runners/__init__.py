"""What executes the pipeline: the local runner today."""
