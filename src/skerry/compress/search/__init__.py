"""Try ways of compressing a model, keep the best that holds a budget, prove it."""
