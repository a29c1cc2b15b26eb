"""What the application's own transaction has written and not yet committed."""
