"""Settings, and the checks of their values."""
