"""Figure 9: wider, deeper and longer trained CNNs."""
