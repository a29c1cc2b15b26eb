"""Why a task waits, and what is wrong."""
