"""Tests of the scaling laws; published tables are read from outside the project, see `tables.py`."""
