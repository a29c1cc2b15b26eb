"""A misfit: a task that its handler cannot be called with."""

from __future__ import annotations


class Misfit(Exception):
    """The handler was not called, because the task lacks a parameter, has one too many, or a value that does not fit.

    Another release's handler may be one that it fits.
    """
