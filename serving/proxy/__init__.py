"""The production proxy: Envoy's configuration, generated from typed settings and steered by the canary."""
