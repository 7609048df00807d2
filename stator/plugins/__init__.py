"""Collectors of the user's own."""
