"""Arrays in, figures out: charts, and grids of images with their heatmaps. No torch, no files."""

from visavis.report.figures.heatmaps import heat_colours, overlay, stretched, where

__all__ = ["heat_colours", "overlay", "stretched", "where"]
