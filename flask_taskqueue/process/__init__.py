"""The operating system process: its threads, signals, traces and interrupted handlers."""
