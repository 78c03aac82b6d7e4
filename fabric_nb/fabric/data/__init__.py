"""Data streams: published, received as rows, recorded and played back."""
