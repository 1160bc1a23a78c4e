"""From raw data to examples and from examples to model inputs: sources, splits, ingestion, preprocessing."""
