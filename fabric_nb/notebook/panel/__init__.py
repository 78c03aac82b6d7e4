"""The kernel's side of the JupyterLab panel.

A thread of its own looks at the fabric and at the notebook twice a second and pushes what has
changed, so that the panel stays alive while a cell computes. `state` and `changes` are pure:
objects in, plain data out, all text bounded and freed of control characters. `link` holds the two
comms, and `requests` what comes in on one of them.
"""

from fabric_nb.notebook.panel.link import Panel

__all__ = ["Panel"]
