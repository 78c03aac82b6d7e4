"""Kernel side of the JupyterLab panel.

The companion thread polls the fabric and the notebook twice a second and pushes changes, so that
the panel stays live while a cell is running. All that it shows are the models of the views under
cells (`notebook.views`): streams, serving and logs as the same tables (`tables`), services as a
tree (`tree`), of which `changes` sends the differences. `poller` reads the notebook and its
registry on the notebook's own loop. `observer` makes calls and receives logs on the companion
thread, and receives keep-alives too while that loop is blocked. `link` has the two comms, and
`requests` validates the requests of one of them.
"""

from fabric_nb.notebook.panel.link import Panel

__all__ = ["Panel"]
