"""Figure 2: densities in the plane."""
