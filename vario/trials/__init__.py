"""Paired comparisons on the user's own run: the same seeds, the same data order, an honest verdict."""
