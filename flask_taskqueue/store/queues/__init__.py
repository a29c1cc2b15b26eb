"""Queues, the keys that limit them, and the dispatchers that serve them."""
