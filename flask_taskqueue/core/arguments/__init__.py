"""Arguments of handlers: how they travel, and how they are converted back."""
