"""Deployment files: container images, docker compose, Kubernetes, KServe, alerts and a dashboard."""
