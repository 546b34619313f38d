"""One URL names a model, wherever it runs."""
from infer_backends._version import __version__

__all__ = ["__version__"]
