"""Leases: how they are claimed, renewed and ended."""
