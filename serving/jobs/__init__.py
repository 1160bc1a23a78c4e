"""Asynchronous inference: pictures are accepted at once, answered later, fetched or delivered by webhook.

A job that was accepted with 202 is on disk. Workers hold jobs by leases, so that a job of a killed worker goes to
another one; after too many tries it is dead and says why. The gateway offers `routes`; workers run inside it or as
`python -m serving.jobs worker`.
"""
