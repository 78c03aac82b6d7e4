"""Exchanges and bindings: from a routing key and headers to destinations; no I/O, no clock.

AMQP 0-9-1, section 3.1.3; the headers modes with `-with-x` and bindings between exchanges are
RabbitMQ's.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from fabric_nb.broker.arguments import compared_exchange_arguments, same_value
from fabric_nb.broker.errors import AMQPError, ReplyCode
from fabric_nb.broker.field_table import Table, Value


class Destination(Protocol):
    """Destination of a binding: a queue or an exchange."""

    @property
    def name(self) -> str:
        """Name in the virtual host."""


class RoutedMessage(Protocol):
    """The part of a message that routing uses besides the routing key."""

    @property
    def headers(self) -> Table:
        """Application headers."""


BindingKey = tuple[Destination, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """Binding of the exchange `source`: matching messages are routed to `destination`."""

    source: "Exchange"
    destination: Destination
    routing_key: str
    arguments: Table

    @property
    def key(self) -> BindingKey:
        """Identity of the binding among those of its exchange."""
        # `repr` distinguishes True from 1, and does not require hashable values.
        return self.destination, self.routing_key, repr(sorted(self.arguments.items()))


class Matcher(Protocol):
    """Index of the bindings of one exchange, by the exchange's type."""

    def add(self, binding: Binding) -> None:
        """Add a binding.

        Raises:
            AMQPError: PRECONDITION_FAILED if its arguments are not valid for the type.
        """

    def remove(self, binding: Binding) -> None:
        """Remove a binding."""

    def match(self, routing_key: str, message: RoutedMessage) -> Iterable[Destination]:
        """Return the destinations of a message, possibly with duplicates."""


class DirectMatcher:
    """Matches a routing key that equals the binding key."""

    def __init__(self) -> None:
        self._destinations: dict[str, Counter[Destination]] = {}

    def add(self, binding: Binding) -> None:
        """See `Matcher`."""
        self._destinations.setdefault(binding.routing_key, Counter())[binding.destination] += 1

    def remove(self, binding: Binding) -> None:
        """See `Matcher`."""
        counts = self._destinations[binding.routing_key]
        counts[binding.destination] -= 1
        if not counts[binding.destination]:
            del counts[binding.destination]
        if not counts:
            del self._destinations[binding.routing_key]

    def match(self, routing_key: str, message: RoutedMessage) -> Iterable[Destination]:
        """See `Matcher`."""
        return self._destinations.get(routing_key, ())


class FanoutMatcher:
    """Matches every message."""

    def __init__(self) -> None:
        self._destinations: Counter[Destination] = Counter()

    def add(self, binding: Binding) -> None:
        """See `Matcher`."""
        self._destinations[binding.destination] += 1

    def remove(self, binding: Binding) -> None:
        """See `Matcher`."""
        self._destinations[binding.destination] -= 1
        if not self._destinations[binding.destination]:
            del self._destinations[binding.destination]

    def match(self, routing_key: str, message: RoutedMessage) -> Iterable[Destination]:
        """See `Matcher`."""
        return self._destinations


class _Word:
    """A node of the topic trie: the binding keys with a common prefix."""

    __slots__ = ("children", "destinations")

    def __init__(self) -> None:
        self.children: dict[str, _Word] = {}
        self.destinations: Counter[Destination] = Counter()


def _words(key: str) -> list[str]:
    """Return the words of a key; an empty key has none, so that `*` does not match it."""
    return key.split(".") if key else []


class TopicMatcher:
    """Matches dotted patterns: `*` is one word, `#` zero or more words."""

    _CACHE_SIZE = 1024

    def __init__(self) -> None:
        self._root = _Word()
        self._cache: dict[str, tuple[Destination, ...]] = {}

    def add(self, binding: Binding) -> None:
        """See `Matcher`."""
        self._cache.clear()
        node = self._root
        for word in _words(binding.routing_key):
            node = node.children.setdefault(word, _Word())
        node.destinations[binding.destination] += 1

    def remove(self, binding: Binding) -> None:
        """See `Matcher`."""
        self._cache.clear()
        path = [self._root]
        words = _words(binding.routing_key)
        for word in words:
            path.append(path[-1].children[word])
        counts = path[-1].destinations
        counts[binding.destination] -= 1
        if not counts[binding.destination]:
            del counts[binding.destination]
        for word, parent, node in zip(
            reversed(words), reversed(path[:-1]), reversed(path), strict=False
        ):
            if node.children or node.destinations:
                break
            del parent.children[word]

    def match(self, routing_key: str, message: RoutedMessage) -> Iterable[Destination]:
        """See `Matcher`."""
        destinations = self._cache.get(routing_key)
        if destinations is None:
            if len(self._cache) >= self._CACHE_SIZE:
                self._cache.clear()
            destinations = self._cache[routing_key] = tuple(dict.fromkeys(self._walk(routing_key)))
        return destinations

    def _walk(self, routing_key: str) -> Iterator[Destination]:
        words = _words(routing_key)
        # Visits positions, not paths, so that many `#` do not make the walk exponential.
        seen: set[tuple[int, int]] = set()
        pending = [(self._root, 0)]
        while pending:
            node, index = pending.pop()
            if (id(node), index) in seen:
                continue
            seen.add((id(node), index))
            if index == len(words):
                yield from node.destinations
            pending.extend(self._steps(node, index, words))

    @staticmethod
    def _steps(node: _Word, index: int, words: list[str]) -> Iterator[tuple[_Word, int]]:
        end = len(words)
        if "#" in node.children:
            yield from ((node.children["#"], later) for later in range(index, end + 1))
        if index < end:
            # A routing key may itself contain the words "*" and "#".
            for word in {words[index], "*"} - {"#"}:
                if word in node.children:
                    yield node.children[word], index + 1


class HeadersMatcher:
    """Compares the binding's arguments with the message's headers, in the mode of `x-match`."""

    def __init__(self) -> None:
        self._rules: dict[Binding, Callable[[Table], bool]] = {}

    def add(self, binding: Binding) -> None:
        """See `Matcher`."""
        self._rules[binding] = _headers_rule(binding.arguments)

    def remove(self, binding: Binding) -> None:
        """See `Matcher`."""
        del self._rules[binding]

    def match(self, routing_key: str, message: RoutedMessage) -> Iterable[Destination]:
        """See `Matcher`."""
        headers = message.headers
        return [binding.destination for binding, rule in self._rules.items() if rule(headers)]


def _headers_rule(arguments: Table) -> Callable[[Table], bool]:
    mode = arguments.get("x-match", "all")
    if mode not in {"all", "any", "all-with-x", "any-with-x"}:
        raise AMQPError(
            ReplyCode.PRECONDITION_FAILED,
            f'Invalid x-match field value <<"{mode!s}">>; '
            "expected all, any, all-with-x, or any-with-x",
        )
    with_x = str(mode).endswith("-with-x")
    required = [
        (name, value)
        for name, value in arguments.items()
        if name != "x-match" and (with_x or not name.startswith("x-"))
    ]
    quantifier = all if str(mode).startswith("all") else any

    def rule(headers: Table) -> bool:
        return quantifier(
            # A void value in the binding requires only that the header is present.
            name in headers and (value is None or same_value(headers[name], value))
            for name, value in required
        )

    return rule


MATCHERS: Mapping[str, Callable[[], Matcher]] = {
    "direct": DirectMatcher,
    "fanout": FanoutMatcher,
    "topic": TopicMatcher,
    "headers": HeadersMatcher,
}


class Exchange:
    """An exchange with its bindings.

    Args:
        name: Name in the virtual host.
        type: A key of `MATCHERS`.
        durable: Stored for comparison with redeclarations; nothing survives the broker.
        auto_delete: Whether the exchange is deleted with its last binding.
        internal: Whether clients may not publish to it.
        arguments: Arguments of the declaration.
        alternate: Name of the exchange for messages that this one cannot route.
    """

    def __init__(
        self,
        name: str,
        type: str,  # noqa: A002 - the term of the protocol
        *,
        durable: bool = False,
        auto_delete: bool = False,
        internal: bool = False,
        arguments: Table | None = None,
        alternate: str | None = None,
    ) -> None:
        self.name = name
        self.type = type
        self.durable = durable
        self.auto_delete = auto_delete
        self.internal = internal
        self.arguments = arguments or {}
        self.alternate = alternate
        self.bindings: dict[BindingKey, Binding] = {}
        self._matcher = MATCHERS[type]()

    @property
    def attributes(self) -> dict[str, Value]:
        """Attributes that a redeclaration must repeat."""
        return {
            "type": self.type,
            "durable": self.durable,
            "auto_delete": self.auto_delete,
            "internal": self.internal,
            **compared_exchange_arguments(self.arguments),
        }

    def bind(self, binding: Binding) -> None:
        """Add a binding; none with its key may exist.

        Raises:
            AMQPError: PRECONDITION_FAILED if its arguments are not valid for this type.
        """
        self._matcher.add(binding)
        self.bindings[binding.key] = binding

    def unbind(self, binding: Binding) -> None:
        """Remove an existing binding."""
        del self.bindings[binding.key]
        self._matcher.remove(binding)

    def match(self, routing_key: str, message: RoutedMessage) -> Iterable[Destination]:
        """Return the destinations of a message, possibly with duplicates."""
        return self._matcher.match(routing_key, message)
