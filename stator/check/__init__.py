"""What `--check` tries beyond reading the environment."""
