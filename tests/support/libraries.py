"""Libraries of the programs that `tests.support.forks` starts, imported once for all of them."""

import gc
import os

os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = "1"  # debugpy's warning of frozen modules

import ipykernel.debugger
import ipykernel.kernelapp
import ipykernel.zmqshell
import IPython.core.magics
import pandas as pd

import fabric_nb.broker.__main__
import fabric_nb.notebook.extension
from fabric_nb import AmqBrokerConnector

__all__ = ["AmqBrokerConnector", "IPython", "fabric_nb", "ipykernel", "pd"]

# A collection in a fork would otherwise copy the memory of all of them.
gc.freeze()
