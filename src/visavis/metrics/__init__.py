"""Metrics of classifiers and of attribution maps."""
