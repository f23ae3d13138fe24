"""Real images that densities are fitted to."""
