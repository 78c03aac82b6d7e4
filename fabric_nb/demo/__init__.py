"""Demo services, each in a separate process."""
