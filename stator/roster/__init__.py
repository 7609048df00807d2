"""Staying registered with a discovery service."""
