"""Traces: spans of calls and messages over all services on their way."""
