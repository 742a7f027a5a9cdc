"""The hub: registry, shadows, releases, rollouts, samples, its HTTP API."""
