"""The documentation site: ``sphinx-build -W docs docs/_build``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from infer_backends import __version__

project = "infer-backends"
author = "the infer-backends authors"
copyright = author  # noqa: A001 - Sphinx reads this name
version = release = __version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "options_table",
]
exclude_patterns = ["_build", "_ext"]
nitpicky = True
# Types that have no page here.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|collections|typing|types|os|pathlib|concurrent|subprocess)\..*"),
    (r"py:.*", r"[a-z_.]*(Array|ArrayLike|NDArray|generic|dtype|ParameterValue|Coerce|URL)"),
    (
        r"py:.*",
        r"(int|str|bytes|float|bool|optional|callable|None|Any|Callable|Mapping|Iterable|Sequence|TracebackType|Self)",
    ),
]

html_theme = "furo"
html_title = f"infer-backends {release}"

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
# Files of the repository that pages link to are shown by name; they are no pages of the site.
suppress_warnings = ["myst.xref_missing"]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_class_signature = "mixed"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
