"""The suite that every backend passes."""

from __future__ import annotations

from infer_backends.testing._in_loops import LoopContract
from infer_backends.testing._of_answers import MetadataContract, TensorContract
from infer_backends.testing._of_calls import InputContract, OutputContract
from infer_backends.testing._of_errors import ErrorContract
from infer_backends.testing._of_life import OpeningContract
from infer_backends.testing._of_members import MembersContract
from infer_backends.testing._of_random import RandomContract
from infer_backends.testing._of_sharing import SharingContract
from infer_backends.testing._of_time import ClosingContract, DeadlineContract


class BackendContract(
    MetadataContract,
    TensorContract,
    RandomContract,
    InputContract,
    OutputContract,
    ErrorContract,
    OpeningContract,
    DeadlineContract,
    SharingContract,
    ClosingContract,
    LoopContract,
    MembersContract,
):
    """What a backend has to keep, as tests. Subclass it, and provide ``reference_url``.

    The fixture ``reference_url`` returns a function from the name of a reference model to the URL
    that opens it; it is asked for the name ``no_such_model``, too. A backend with no restrictions
    needs no more. What it cannot do is declared, and is then tested to be the error that the rules
    say; a declaration that is not needed is a failure.

    A fixture ``outage``, for a backend whose server the tests can take away, returns a function
    that does so for the time of a ``with`` statement.

    Attributes:
        main: The model that most tests call: a reference model, or one of the author's own, for
            a backend whose models have one fixed form.
        tolerance: How far floats of the main model may be from what its ``compute`` says,
            relatively and absolutely; 0 for not at all.
        unsupported: The names of the reference models that this backend cannot serve; opening
            one has to raise ``UnsupportedOperation``.
        absent: The names of the reference models that there are not, such as those that cannot
            even be given to a server, whose own limit it is; opening one has to raise
            ``ModelNotFound``. ``frozenset(REFERENCE_MODELS)`` where ``main`` is the only one.
        refused: Elements that the runtime could not keep as they are, by datatype: those of
            the method ``values`` that a call has to refuse with ``InvalidInput``, or with
            ``UnsupportedOperation``. A runtime that computes in 32 bits names the extremes of
            INT64, for example; what speaks JSON alone, NaN and the infinities.
        interrupts: Whether a deadline that the caller gave ends a call in the middle of it.
        survives_fork: Whether an open model can be called in a forked child. If not, such a call
            has to raise ``UnsupportedOperation``, at once.
        option_values: A value for each option of the plugin's own that tests may open the main
            model with, beside its default.
    """
