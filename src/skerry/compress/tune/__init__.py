"""Find, among all recipes of a space, those that nothing beats within a budget.

A space says what a recipe may be made of; a sampler proposes one after another from
what the earlier ones came to; a store remembers them, for several workers and over any
interruption; the front is what nothing beats, and the budget chooses from it.
"""
