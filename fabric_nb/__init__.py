"""A Jupyter notebook as a full member of an AMQP microservice fabric.

In a notebook: ``%load_ext fabric_nb``, then ``%fabric_connect``. In a program::

    from fabric_nb import AbstractServiceApi, AmqBrokerConnector

The public names are declared in `__init__.pyi`, and imported when they are used.
"""

import lazy_loader

__getattr__, __dir__, _names = lazy_loader.attach_stub(__name__, __file__)
__all__ = [name for name in _names if not name.endswith("_ipython_extension")]
