"""One delivery: what is sent, what comes back, and what that means."""
