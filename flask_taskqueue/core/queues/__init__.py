"""The rules by which tasks of a queue start, and in which order."""
