"""One delivery: the request, the reply, and what the reply means."""
