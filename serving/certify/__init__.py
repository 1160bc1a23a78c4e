"""Deciding which forms of a model may ship, and showing why.

Comes in: measurements of every variant. Goes out: the results table (CSV and JSON) with a verdict per variant, the
Pareto front, a pick per target, a picture and a table for the terminal. Nothing here runs a model.
"""
