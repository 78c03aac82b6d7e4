"""Rendering of cell output."""
