"""Observations 1 to 4, checked by experiments."""
