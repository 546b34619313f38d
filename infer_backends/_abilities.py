"""What a backend that wraps another one hands through: its member's optional abilities.

An ability is a protocol that is tested by ``isinstance``, so a wrapper must have the method when
its member has it, and must not when it has not: hence a subclass for each set of abilities.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar, cast

from infer_backends._backend import (
    Backend,
    SupportsAdvice,
    SupportsDescription,
    SupportsReadiness,
    SupportsRequestOptions,
)
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


class _RequestOptions:
    _member: SupportsRequestOptions

    @property
    def request_options(self) -> frozenset[str]:
        """What the member can do for a call."""
        return self._member.request_options


class _Advice:
    _member: SupportsAdvice

    def advice(self, ability: str) -> str:
        """Where that can be had which the member cannot do."""
        return self._member.advice(ability)


#: Abilities, each with the mixin by which a wrapper has it if its member does.
Abilities = tuple[tuple[Any, type], ...]

_HANDED_THROUGH: Abilities = (
    (SupportsReadiness, _Readiness),
    (SupportsDescription, _Description),
    (SupportsRequestOptions, _RequestOptions),
    (SupportsAdvice, _Advice),
)


def with_abilities_of(
    member: Backend, wrapper: type[Wrapper], own: Abilities = ()
) -> type[Wrapper]:
    """The class for a wrapper of ``member``: it can do what the wrapper can, and the member.

    Args:
        member: Who is wrapped.
        wrapper: A class whose instances keep the member as ``_member``.
        own: What the wrapper itself has a part in, where its member can do it.
    """
    mixins = tuple(
        mixin for ability, mixin in (*_HANDED_THROUGH, *own) if isinstance(member, ability)
    )
    base: Any = wrapper
    return cast("type[Wrapper]", _subclass(base, mixins)) if mixins else wrapper


@cache
def _subclass(wrapper: Any, mixins: tuple[type, ...]) -> type:
    # A second name would only puzzle who reads it in a repr.
    return type(wrapper.__name__, (wrapper, *mixins), {"__doc__": wrapper.__doc__})
