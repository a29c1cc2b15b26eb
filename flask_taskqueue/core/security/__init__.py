"""The rules about where tasks may go, and what is encrypted or hidden."""
