"""Add tasks: one, a batch, those of a schedule."""
