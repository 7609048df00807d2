"""Collectors and registrars of the user's own."""
