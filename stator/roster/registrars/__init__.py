"""Ways to be found: one file a discovery service."""
