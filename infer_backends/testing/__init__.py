"""Door 3: for those who test a plugin. Needs pytest, which the extra ``testing`` brings.

A plugin's tests subclass :class:`BackendContract`, and say where its models are::

    class TestMyRuntime(BackendContract):
        @pytest.fixture
        def reference_url(self) -> Callable[[str], str]:
            return lambda name: f"myruntime:models/{name}.bin"
"""

try:
    import pytest
except ModuleNotFoundError as exc:
    if exc.name != "pytest":
        raise
    from infer_backends._errors import MissingDependency

    raise MissingDependency(
        "infer_backends.testing needs the package pytest: pip install 'infer-backends[testing]'"
    ) from exc

# Before the imports, so that a failing assert of the suite shows what it compared.
pytest.register_assert_rewrite(
    "infer_backends.testing._contract",
    "infer_backends.testing._further",
    "infer_backends.testing._in_loops",
    "infer_backends.testing._values",
)

from infer_backends.testing._contract import BackendContract  # noqa: E402
from infer_backends.testing._further import SequenceContract, StreamingContract  # noqa: E402
from infer_backends.testing._reference import REFERENCE_MODELS, ReferenceModel  # noqa: E402

__all__ = [
    "REFERENCE_MODELS",
    "BackendContract",
    "ReferenceModel",
    "SequenceContract",
    "StreamingContract",
]
