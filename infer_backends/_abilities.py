"""What a backend that wraps another one hands through: its member's optional abilities.

An ability is a protocol that is tested by ``isinstance``, so a wrapper must have the method when
its member has it, and must not when it has not: hence a subclass for each set of abilities.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, cast

from infer_backends._backend import Backend, SupportsDescription, SupportsReadiness
from infer_backends._deadline import Deadline
from infer_backends._tensors import ModelMetadata

Wrapper = TypeVar("Wrapper")


class _Readiness:
    _member: SupportsReadiness

    def ready(self, deadline: Deadline) -> bool:
        """Whether the member is ready."""
        return self._member.ready(deadline)


class _Description:
    _member: SupportsDescription

    def describe(self, deadline: Deadline) -> ModelMetadata:
        """What the member's model says of itself now."""
        return self._member.describe(deadline)


_HANDED_THROUGH: tuple[tuple[Any, type], ...] = (
    (SupportsReadiness, _Readiness),
    (SupportsDescription, _Description),
)


def with_abilities_of(member: Backend, wrapper: type[Wrapper]) -> type[Wrapper]:
    """The class for a wrapper of ``member``: it can do what the wrapper can, and the member.

    Args:
        member: Who is wrapped.
        wrapper: A class whose instances keep the member as ``_member``.
    """
    mixins = tuple(mixin for ability, mixin in _HANDED_THROUGH if isinstance(member, ability))
    base: Any = wrapper
    return cast("type[Wrapper]", _subclass(base, mixins)) if mixins else wrapper


@cache
def _subclass(wrapper: Any, mixins: tuple[type, ...]) -> type:
    # A second name would only puzzle who reads it in a repr.
    return type(wrapper.__name__, (wrapper, *mixins), {"__doc__": wrapper.__doc__})
