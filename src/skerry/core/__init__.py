"""The nouns: frozen data and pure rules, shared by every room."""
