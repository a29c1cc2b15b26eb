"""The dispatcher: takes tasks, attempts them, records what became of them."""
