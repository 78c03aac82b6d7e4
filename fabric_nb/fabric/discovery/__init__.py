"""Who is in the fabric: announcements out, keep-alives in, the registry, names resolved."""
