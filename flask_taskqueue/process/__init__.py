"""The operating system process: its threads, signals and interrupted handlers."""
