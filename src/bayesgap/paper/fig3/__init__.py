"""Figure 3: one predictive feature."""
