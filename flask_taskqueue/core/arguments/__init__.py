"""How the arguments of handlers are stored, and converted back."""
