"""The model card: what people should know about a model, in the fields of the Model Card Toolkit."""
