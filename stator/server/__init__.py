"""Gunicorn as the standalone program runs it."""
