"""The HTTP client toward the discovery service."""
