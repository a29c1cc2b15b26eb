"""Leases: claimed, renewed, ended."""
