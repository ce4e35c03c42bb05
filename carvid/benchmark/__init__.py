"""Models on data sets: predictions, and settings chosen by measuring."""
