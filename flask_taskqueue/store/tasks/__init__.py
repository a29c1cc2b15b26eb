"""Finding, listing and changing stored tasks."""
