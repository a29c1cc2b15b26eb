"""Chaos: real processes are killed, paused and cut off, and a checker looks at what they left
behind.
"""
