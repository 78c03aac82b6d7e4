"""Calls out and calls served."""
