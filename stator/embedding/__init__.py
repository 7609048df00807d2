"""Stator within an application of your own."""
