"""Counts: for statistics, metrics and charts."""
