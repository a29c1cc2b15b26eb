"""Tests with the packages that apps have beside this one. ``make matrix`` installs them all."""
