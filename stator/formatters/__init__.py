"""Ways to write points: one file an exposition format."""
