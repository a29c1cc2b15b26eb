"""Where tasks may go, and what is encrypted or hidden."""
