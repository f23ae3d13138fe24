"""Figure 8: a mixture fitted to a helix."""
