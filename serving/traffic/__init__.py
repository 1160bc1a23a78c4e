"""Who is answered by which version: canary rollouts, sticky splitting, shadow traffic and A/B comparison."""
