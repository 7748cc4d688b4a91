"""Typed sessions: the bridge between a session's keys and a msgspec Struct, a dataclass or a pydantic model."""

import dataclasses
import datetime
import decimal
import uuid
from dataclasses import is_dataclass
from typing import Any

import msgspec

from coatcheck.errors import ConfigurationError, SchemaMismatch, UnstorableValue

__all__ = ["Schema"]

_KEPT = (datetime.datetime, datetime.date, uuid.UUID, decimal.Decimal, bytes)
"""Types the codec stores as they are; everything else is turned into JSON's own and back by the schema."""


class Schema:
    """Loads a typed object from a session's keys and gives its fields back.

    Raises ConfigurationError for a model that is none, or that cannot begin empty as every new session does.
    """

    def __init__(self, model: type[Any]) -> None:
        self.model = model
        self._pydantic = hasattr(model, "model_validate")
        kind = isinstance(model, type)
        if not (kind and (self._pydantic or is_dataclass(model) or issubclass(model, msgspec.Struct))):
            raise ConfigurationError(
                f"schema={model!r}: give a msgspec.Struct, a dataclass or a pydantic model"
            )
        try:
            self.load({})
        except SchemaMismatch as error:
            raise ConfigurationError(f"schema={model!r}: give every field a default ({error})") from error

    def load(self, values: dict[str, Any]) -> Any:
        """An object of the model from the keys it knows. Raises SchemaMismatch when they do not fit."""
        try:
            if self._pydantic:
                return self.model.model_validate(values)
            return msgspec.convert(values, self.model, str_keys=True)
        except ValueError as error:  # msgspec's and pydantic's ValidationError both are one
            raise SchemaMismatch(f"the stored session does not fit {self.model.__name__}: {error}") from error

    def dump(self, typed: Any) -> dict[str, Any]:
        """The fields of a typed object by their names in the session, as values the codec stores.

        Raises UnstorableValue for a field that holds what neither the model nor we can write.
        """
        try:
            plain: dict[str, Any] = msgspec.to_builtins(
                self._fields(typed), builtin_types=_KEPT, str_keys=True
            )
        except TypeError as error:
            raise UnstorableValue(f"session.data, {self.model.__name__}: {error}") from error
        return plain

    def _fields(self, typed: Any) -> dict[str, Any]:
        """Every field, also one that has its default value again: it may have had another."""
        if self._pydantic:
            # What it computes it computes again. A value of the wrong type is the codec's to refuse, not a warning.
            computed = set(self.model.model_computed_fields)
            dumped: dict[str, Any] = typed.model_dump(by_alias=True, exclude=computed, warnings=False)
            return dumped
        if isinstance(typed, msgspec.Struct):
            names = zip(typed.__struct_encode_fields__, typed.__struct_fields__, strict=True)
            return {stored: getattr(typed, name) for stored, name in names}
        return {field.name: getattr(typed, field.name) for field in dataclasses.fields(typed)}
