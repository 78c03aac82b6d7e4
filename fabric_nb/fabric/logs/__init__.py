"""Log records, sent and received."""
