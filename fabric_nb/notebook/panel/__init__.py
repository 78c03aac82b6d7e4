"""Kernel side of the JupyterLab panel.

The companion thread polls the fabric and the notebook twice a second and pushes changes, so that
the panel stays live while a cell is running. All that it shows are the models of the views under
cells (`notebook.views`): streams, serving and logs as the same tables (`tables`), services as a
tree (`tree`), of which `changes` sends the differences. `poller` reads the notebook on its own
loop, and `observer` the fabric on the companion thread. `link` has the two comms, and `requests`
validates the requests of one of them.
"""

from fabric_nb.notebook.panel.link import Panel

__all__ = ["Panel"]
