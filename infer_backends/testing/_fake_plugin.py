"""The plugin of the scheme ``fake``: models in memory, for the tests of applications."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from infer_backends.plugin import (
    Backend,
    InvalidURL,
    ModelNotFound,
    ModelURL,
    OpenOptions,
    Option,
    hookimpl,
)

if TYPE_CHECKING:
    from infer_backends.testing._fake import Fake

INFER_BACKENDS_API = 1

_OPTIONS = (
    Option(
        "inputs",
        str,
        None,
        "a fake described by its URL: its inputs, as NAME:DATATYPE[SIZE,SIZE], with ';' between",
    ),
    Option("outputs", str, None, "a fake described by its URL: its outputs, likewise"),
    Option(
        "max_batch_size",
        int,
        None,
        "a fake described by its URL: rows that one request may hold; 0 for no batching",
        minimum=0,
    ),
    Option("seed", int, 0, "what its outputs, and its faults, are made up by"),
    Option("delay", float, 0.0, "what each answer takes, in seconds", minimum=0.0),
    Option("faults", float, 0.0, "the share of calls that nobody answers, 0 to 1", minimum=0.0),
    Option("down", bool, False, "whether nobody is there, from the first"),
)


@hookimpl
def infer_backends_open(url: ModelURL, options: OpenOptions) -> Backend:
    """Open a fake: one that a test has started, or that its URL describes, or of the suite."""
    from infer_backends.testing._fake_backend import FakeBackend, StreamingFakeBackend

    fake = _find(url, options)
    if options["faults"] > 1:
        raise InvalidURL("the option 'faults' has a wrong value: expected a share, from 0 to 1")
    if options["down"]:
        fake.health.fail()
    metadata = fake.open(options.deadline)
    kind = StreamingFakeBackend if metadata.decoupled else FakeBackend
    return kind(fake, metadata, str(url), options)


@hookimpl
def infer_backends_options() -> Sequence[Option]:
    """The options of ``fake:`` URLs."""
    return _OPTIONS


def _find(url: ModelURL, options: OpenOptions) -> Fake:
    from infer_backends.testing._fake import NAMES, PLATFORM, Fake
    from infer_backends.testing._fake_reference import reference_fake
    from infer_backends.testing._fake_urls import described, describes

    name = url.require_path()
    started = NAMES.find(name)
    known = started or reference_fake(name)
    if known is not None and describes(options):
        whose = "by its test" if started else "by the suite for plugins"
        raise InvalidURL(
            f"{url.location!r} is described {whose}: leave inputs=, outputs= and max_batch_size= "
            "out, or use another name"
        )
    if known is not None:
        return known
    if describes(options):
        return Fake(described(url, PLATFORM, options), seed=options["seed"])
    names = [fake.name for fake in NAMES.all()]
    raise ModelNotFound(
        f"no fake model {name!r} is started in this process: write "
        f"`with FakeModel({name!r}, inputs=[...], outputs=[...]):` around what opens it (from "
        "infer_backends.testing), or describe it in its URL, as in "
        f"{url.location}?inputs=x:FP32[-1,3]&outputs=y:FP32[-1,2]; started are: "
        f"{', '.join(names) or 'none'}; infer_backends.testing.REFERENCE_MODELS are always there"
    )
