"""A Jupyter notebook as a full member of an AMQP microservice fabric.

In a notebook: ``%load_ext fabric_nb``, then ``%fabric_connect``. In a program::

    from fabric_nb import AbstractServiceApi, AmqBrokerConnector

The public names are declared in `__init__.pyi`, and imported when they are used.
"""

import sys

if sys.version_info < (3, 11):  # noqa: UP036 - pip refuses it, but not a folder on the path
    running = ".".join(map(str, sys.version_info[:3]))
    raise ImportError(f"fabric_nb needs Python 3.11 or newer, and this is Python {running}.")

import lazy_loader

_import_name, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [name for name in _names if not name.endswith("_ipython_extension")]


def __getattr__(name: str) -> object:
    try:
        return _import_name(name)
    except ImportError as error:
        from fabric_nb.libraries import unusable_library

        if (unusable := unusable_library(error)) is None:
            raise
        raise unusable from error
