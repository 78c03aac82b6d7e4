"""How much memory messages may take, and which publishers have to wait.

The rule is the dynamic threshold of shared switch buffers (Choudhury and Hahne, 1998): a publisher
has to wait while what it has outstanding is more than what is still free. So one flood takes half
of the memory and two take two thirds, the limit is never reached, and a publisher who has little
outstanding is never stopped by the others.
"""

from collections.abc import Callable


class MemoryPool:
    """The memory for messages of a whole broker.

    Args:
        limit: Bytes that all messages together may take.
    """

    RESUME_FRACTION = 0.8
    """A stopped publisher goes on when it is this far below the threshold, not at once."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.blocked: set[MemoryAccount] = set()

    def charge(self, size: int) -> None:
        """Take `size` bytes; fewer than none gives some back."""
        self.used += size
        if size < 0 and self.blocked:
            self._resume_unblocked()

    def _resume_unblocked(self) -> None:
        """Let those publishers go on who have come below their threshold."""
        threshold = (self.limit - self.used) * self.RESUME_FRACTION
        for account in [account for account in self.blocked if account.outstanding <= threshold]:
            self.blocked.discard(account)
            account.on_resume()


class MemoryAccount:
    """What the messages of one publisher take.

    Args:
        pool: The memory from which it takes.
        on_resume: Called when this publisher, having had to wait, may go on.
    """

    __slots__ = ("on_resume", "outstanding", "pool")

    def __init__(self, pool: MemoryPool, on_resume: Callable[[], None]) -> None:
        self.pool = pool
        self.on_resume = on_resume
        self.outstanding = 0

    def charge(self, size: int) -> None:
        """Take `size` bytes."""
        self.outstanding += size
        self.pool.charge(size)

    def refund(self, size: int) -> None:
        """Give `size` bytes back."""
        self.outstanding -= size
        self.pool.charge(-size)

    def must_wait(self) -> bool:
        """Whether this publisher is over its threshold; if so, `on_resume` is called later."""
        pool = self.pool
        if self.outstanding <= pool.limit - pool.used:
            return False
        pool.blocked.add(self)
        return True

    def close(self) -> None:
        """Forget the publisher; what it has outstanding stays accounted until it is consumed."""
        self.pool.blocked.discard(self)
        self.on_resume = _ignore


def _ignore() -> None:
    """Stands in for a publisher that is gone, so that its messages do not keep it alive."""
