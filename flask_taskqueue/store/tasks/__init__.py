"""Find, list and change stored tasks."""
