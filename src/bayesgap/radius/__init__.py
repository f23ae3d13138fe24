"""Certified distances to the optimal decision boundary."""
