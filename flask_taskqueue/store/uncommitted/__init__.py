"""The uncommitted changes of the app's own transaction."""
