"""Queues: what may start, and in which order."""
