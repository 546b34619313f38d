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
    "contract_rules",
    "options_table",
]
# What the benchmark writes is a part of its page, not a page.
exclude_patterns = [
    "_build",
    "_ext",
    "explanation/benchmarks-results.md",
    "explanation/where-the-time-goes-results.md",
]
nitpicky = True
_BUILTIN_NAMES = """
    AbstractContextManager Any Array ArrayLike Callable Coerce Described Future Item Iterable
    Mapping NDArray ParameterValue Registration LoopContract Reopening Self Sequence TracebackType
    _Contract URL bool bytes dtype float generic int str
""".split()  # noqa: SIM905 - a long list of short words
nitpick_ignore = [("py:meth", "reference_url")]  # a fixture, which is no method to autodoc
# Types that have no page here.
nitpick_ignore_regex = [
    (
        r"py:.*",
        r"(numpy|np|collections|typing|types|os|pathlib|concurrent|subprocess|enum)\..*",
    ),
    (r"py:.*", rf"[a-z_.]*({'|'.join(_BUILTIN_NAMES)})"),
    (r"py:.*", r".*[ \[].*"),  # prose, and parts of annotations
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
