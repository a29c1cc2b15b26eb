"""Adding tasks: one by one, in batches, and by schedules."""
