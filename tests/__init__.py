"""The tests: unit and property by room, system with real processes, and the gates."""
