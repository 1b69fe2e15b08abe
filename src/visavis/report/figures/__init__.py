"""Arrays in, figures out: charts, and grids of images with their heatmaps. No torch, no files."""
