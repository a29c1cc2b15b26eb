"""The settings, and the checks of their values."""
