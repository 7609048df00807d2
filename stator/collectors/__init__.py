"""What gives points: one file a collector."""
