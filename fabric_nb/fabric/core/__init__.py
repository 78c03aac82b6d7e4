"""Utilities of all packages of the connector: background tasks, timeouts, files, plain values."""
