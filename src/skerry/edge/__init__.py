"""The gateway: an engine that serves, an agent that updates, a field watch."""
