"""Beam's data stages on several worker processes, on this machine or on others."""
