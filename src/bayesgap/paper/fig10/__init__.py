"""Figure 10: fifty times the noise."""
