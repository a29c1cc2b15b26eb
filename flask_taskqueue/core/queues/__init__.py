"""What may start in a queue, and in which order."""
