"""Schedules: what they say, and when they fire."""
