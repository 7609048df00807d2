"""Stator inside another application."""
