"""Figure 5: brittle data or brittle learning."""
