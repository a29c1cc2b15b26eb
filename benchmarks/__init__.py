"""What the performance page quotes."""
