"""Widgets for live output: rate limit, placement under a cell, and static copies."""
