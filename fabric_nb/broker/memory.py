"""Memory accounting of messages, and back-pressure on publishers.

The rule is the dynamic threshold of shared switch buffers (Choudhury and Hahne, 1998): a publisher
is blocked while its outstanding bytes exceed the free memory. So one flooding publisher gets half
of the memory and two get two thirds, the limit is never reached, and a publisher with few
outstanding bytes is never blocked by others.
"""

from collections.abc import Callable


class MemoryPool:
    """Memory for the messages of a broker.

    Args:
        limit: Maximum size of all messages in bytes.
    """

    RESUME_FRACTION = 0.8
    """Fraction of the threshold below which a blocked publisher resumes (hysteresis)."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.blocked: set[MemoryAccount] = set()

    def charge(self, size: int) -> None:
        """Allocate `size` bytes; a negative size frees them."""
        self.used += size
        if size < 0 and self.blocked:
            self._resume_unblocked()

    def _resume_unblocked(self) -> None:
        """Resume the blocked publishers that are below their threshold."""
        threshold = (self.limit - self.used) * self.RESUME_FRACTION
        for account in [account for account in self.blocked if account.outstanding <= threshold]:
            self.blocked.discard(account)
            account.on_resume()


class MemoryAccount:
    """Memory account of one publisher.

    Args:
        pool: Memory pool of the broker.
        on_resume: Called when this publisher is no longer blocked.
    """

    __slots__ = ("on_resume", "outstanding", "pool")

    def __init__(self, pool: MemoryPool, on_resume: Callable[[], None]) -> None:
        self.pool = pool
        self.on_resume = on_resume
        self.outstanding = 0

    def charge(self, size: int) -> None:
        """Allocate `size` bytes."""
        self.outstanding += size
        self.pool.charge(size)

    def refund(self, size: int) -> None:
        """Free `size` bytes."""
        self.outstanding -= size
        self.pool.charge(-size)

    def must_wait(self) -> bool:
        """Return whether this publisher exceeds its threshold; then `on_resume` is called later."""
        pool = self.pool
        if self.outstanding <= pool.limit - pool.used:
            return False
        pool.blocked.add(self)
        return True

    def close(self) -> None:
        """Detach the publisher; its messages stay accounted until they are consumed."""
        self.pool.blocked.discard(self)
        self.on_resume = _ignore


def _ignore() -> None:
    """Replace the callback of a closed publisher, which its messages would keep alive."""
