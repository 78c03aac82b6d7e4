"""Service discovery: announcer, keep-alive listener, registry and name resolver."""
