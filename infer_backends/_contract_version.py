"""Pure: whether a plugin that was written for one version of the contract works with another.

A version of the core loads plugins of its own version of the contract and of the one before, so
that the core and its plugins need not be updated on the same day.
"""

from __future__ import annotations

API_ATTRIBUTE = "INFER_BACKENDS_API"


def mismatch(written_for: object, current: int) -> str:
    """What keeps a plugin from being loaded; empty if nothing does.

    Args:
        written_for: What the plugin says.
        current: The version of the contract that this core has.
    """
    if not isinstance(written_for, int) or isinstance(written_for, bool):
        got = "" if written_for is None else f", and has {API_ATTRIBUTE} = {written_for!r:.30}"
        return (
            "does not say which contract it was written for: it needs a line "
            f"{API_ATTRIBUTE} = {current}{got}"
        )
    if max(1, current - 1) <= written_for <= current:
        return ""
    update = "the plugin" if written_for < current else "infer-backends"
    return (
        f"was written for version {written_for} of the plugin contract, and this is version "
        f"{current}: update {update}"
    )
