"""Forms for servers, delivered: a folder per target that holds a certified model and says how to run it."""
