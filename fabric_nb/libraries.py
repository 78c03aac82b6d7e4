"""Import of libraries when they are first needed, and tests for their values without an import.

pandas takes longer to import, and more memory, than all of the connector, so that a module imports
it at its top only if the module is itself imported when a DataFrame is needed. A value of a library
that has not been imported cannot exist, which makes the tests for such values cheap.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeGuard

from fabric_nb.errors import UnusableLibrary

if TYPE_CHECKING:
    import pandas as pd
    from packaging.requirements import Requirement

_DISTRIBUTION = "fabric-nb"
MAX_REASON = 200
"""Characters of the error of a failed import that are shown."""


@contextmanager
def importing(library: str) -> Iterator[None]:
    """Report a failed import in one sentence.

    Example::

        with importing("pandas"):
            import pandas as pd

    Raises:
        UnusableLibrary: the statements of the block raised, because the library is broken or has a
            version that is not supported.
    """
    try:
        yield
    except Exception as error:  # a binary that does not match its library may raise anything
        raise UnusableLibrary(unsupported() or _broken(library, error)) from error


def unusable_library(error: ImportError) -> UnusableLibrary | None:
    """Return an error that names the library whose import has failed; None if it is fabric_nb."""
    library = (error.name or "").partition(".")[0]
    if isinstance(error, UnusableLibrary) or library in ("", "fabric_nb"):
        return None
    return UnusableLibrary(unsupported() or _broken(library, error))


def unsupported() -> str:
    """Return a sentence on a dependency of an unsupported version; empty if there is none."""
    from importlib import metadata

    for requirement in _requirements():
        try:
            version = metadata.version(requirement.name)
            supported = requirement.specifier.contains(version, prereleases=True)
        except (metadata.PackageNotFoundError, ValueError, TypeError):  # or has no valid version
            continue
        if not supported:
            wanted = f"{requirement.name}{requirement.specifier}"
            return (
                f"{requirement.name} {version} is installed, and fabric_nb supports {wanted}: run"
                f" pip install '{wanted}'."
            )
    return ""


def _requirements() -> list[Requirement]:
    """Return the dependencies that fabric_nb declares, with those of its extras."""
    from importlib import metadata

    from packaging.requirements import Requirement

    try:
        declared = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:  # run from its sources
        return []
    found = [Requirement(text) for text in declared]
    return [
        each
        for each in found
        if each.marker is None or any(each.marker.evaluate({"extra": name}) for name in _EXTRAS)
    ]


_EXTRAS = ("", "arrow", "keyring", "terminal", "zstd")
"""Extras whose libraries are used when they are installed."""


def _broken(library: str, error: Exception) -> str:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:MAX_REASON].rstrip(".")
    return (
        f"{library} cannot be imported ({reason}): install it again with pip install"
        f" --force-reinstall {library}."
    )


def is_imported(library: str) -> bool:
    """Return whether a library has been imported, by whichever module."""
    return sys.modules.get(library) is not None


# The import statements below wait for an import that another thread has begun.


def is_frame(value: object) -> TypeGuard[pd.DataFrame]:
    """Return whether a value is a DataFrame."""
    if not is_imported("pandas"):
        return False
    import pandas as pd

    return isinstance(value, pd.DataFrame)


def is_series(value: object) -> TypeGuard[pd.Series[Any]]:
    """Return whether a value is a Series."""
    if not is_imported("pandas"):
        return False
    import pandas as pd

    return isinstance(value, pd.Series)


def is_table(value: object) -> TypeGuard[pd.DataFrame | pd.Series[Any]]:
    """Return whether a value is a DataFrame or a Series."""
    return is_frame(value) or is_series(value)
