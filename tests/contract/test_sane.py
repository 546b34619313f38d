"""The backend that the mutants are made from keeps every rule of the contract."""

from __future__ import annotations

from tests.contract.mutants.sane import SaneContract


class TestSane(SaneContract):
    """Every test of the contract, streams and sequences among them."""
