"""What answers requests: worker routes and their guard."""
