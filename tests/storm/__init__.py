"""A storm over a serving engine: what is served, who asks, what breaks, who judges."""
