"""The counts for statistics, metrics and charts."""
