"""Tests for other people's stores and applications: `StoreContract(lambda: MyStore(...)).run()`."""

from coatcheck.testing.contract import ContractBroken, Sentence, StoreContract

__all__ = ["ContractBroken", "Sentence", "StoreContract"]
