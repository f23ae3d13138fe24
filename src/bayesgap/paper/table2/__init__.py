"""Table 2: real test images."""
