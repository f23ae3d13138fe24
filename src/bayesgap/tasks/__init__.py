"""Classification problems with known densities, and their Bayes-optimal classifiers."""
