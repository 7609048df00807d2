"""Registered, and staying so."""
