"""Tasks: requested, stored, read."""
