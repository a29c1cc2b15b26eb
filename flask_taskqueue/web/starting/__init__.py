"""Starting: the checks of an app, and the dispatcher that starts with its server."""
