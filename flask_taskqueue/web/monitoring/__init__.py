"""Monitoring: the routes for health checks and metrics."""
