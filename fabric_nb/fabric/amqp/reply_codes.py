"""Reply codes with which a broker closes a channel (AMQP 0-9-1, section 1.1, "Constants")."""

from __future__ import annotations

from typing import Final

ACCESS_REFUSED: Final = 403
"""The user lacks a permission."""
NOT_FOUND: Final = 404
"""The exchange or queue does not exist."""
RESOURCE_LOCKED: Final = 405
"""The queue is exclusive to another connection."""
PRECONDITION_FAILED: Final = 406
"""The exchange or queue exists with other properties, or a message is not acceptable."""
