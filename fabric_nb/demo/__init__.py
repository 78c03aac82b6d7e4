"""Services to try things on, as processes of their own."""
