"""The documentation as a site: `make docs`."""

import sys
from importlib.resources import files
from pathlib import Path

import spurious

sys.path.insert(0, str(Path(__file__).parent))

project = "spurious"
author = "The spurious developers"
version = release = spurious.__version__
extensions = [
    "myst_parser",
    "sphinx_external_toc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "site_extras",
]
exclude_patterns = ["requirements.txt"]

external_toc_path = "toc.yml"
external_toc_exclude_missing = False

html_theme = "furo"
html_static_path = ["_static", str(files("ziamath") / "fonts")]
html_css_files = ["site.css"]
html_title = "spurious"
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

myst_enable_extensions = ["dollarmath", "attrs_inline"]
myst_heading_anchors = 4
myst_fence_as_directive = ["mermaid"]

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "separated"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
