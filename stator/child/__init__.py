"""A program that Stator runs and makes observable."""
