"""Everything that answers requests: worker routes and their guard."""
