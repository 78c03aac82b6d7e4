"""Shared by all packages of the connector: background tasks, time limits, files, plain values."""
