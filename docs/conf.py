"""Sphinx's configuration: `make docs` builds the manual into build/docs, offline."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "extensions"))

import fabric_nb  # noqa: E402

project = "fabric_nb"
author = "The fabric_nb developers"
project_copyright = f"2026, {author}"
release = version = fabric_nb.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "notebooks",  # the last three are in docs/extensions
    "magic_reference",
    "command_reference",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}

# The notebooks are shown as they are stored; tests run them.
nb_execution_mode = "off"
nb_merge_streams = True

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# `name` in docstrings is code, and a link if it has a target.
default_role = "py:obj"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
napoleon_google_docstring = True
napoleon_numpy_docstring = False

copybutton_prompt_text = r"In \[\d+\]: |\$ "
copybutton_prompt_is_regexp = True

smartquotes = False  # options begin with two dashes

html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["manual.css"]
html_title = "fabric_nb"
html_show_sphinx = False
html_theme_options = {"sidebar_hide_name": False}
