"""The dispatcher: takes tasks, attempts them and records what became of them."""
