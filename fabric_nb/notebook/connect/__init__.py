"""Form that connects to a broker: recent brokers, and the domains that are announced on one."""
