"""Tasks: asked for, stored, and read."""
