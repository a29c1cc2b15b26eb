"""What belongs to the operating system process: threads, signals, interrupted handlers."""
