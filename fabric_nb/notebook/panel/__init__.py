"""Kernel side of the JupyterLab panel.

The companion thread polls the fabric and the notebook twice a second and pushes changes, so that
the panel stays live while a cell is running. `state` and `changes` are pure: they convert objects
to plain data, with all text truncated and stripped of control characters. `link` has the two comms,
and `requests` validates the requests of one of them.
"""

from fabric_nb.notebook.panel.link import Panel

__all__ = ["Panel"]
