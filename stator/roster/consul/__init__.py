"""Consul as a registrar."""
