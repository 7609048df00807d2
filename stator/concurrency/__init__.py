"""Calls that may hang, with deadlines."""
