"""Typed sessions: the bridge between a session's keys and a msgspec Struct, a dataclass or a pydantic model."""

import datetime
import decimal
import uuid
from dataclasses import is_dataclass
from typing import Any

import msgspec

from coatcheck.errors import ConfigurationError, SchemaMismatch

__all__ = ["Schema"]

_KEPT = (datetime.datetime, datetime.date, uuid.UUID, decimal.Decimal, bytes)
"""Types the codec stores as they are; everything else is turned into JSON's own and back by the schema."""


class Schema:
    """Loads a typed object from a session's keys and gives its fields back."""

    def __init__(self, model: type[Any]) -> None:
        self.model = model
        self._pydantic = hasattr(model, "model_validate")
        if not (self._pydantic or is_dataclass(model) or (issubclass(model, msgspec.Struct))):
            raise ConfigurationError(
                f"schema={model!r}: give a msgspec.Struct, a dataclass or a pydantic model whose fields all have defaults"
            )
        self.load({})

    def load(self, values: dict[str, Any]) -> Any:
        """An object of the model from the keys it knows. Raises SchemaMismatch when they do not fit."""
        try:
            if self._pydantic:
                return self.model.model_validate(values)
            return msgspec.convert(values, self.model)
        except ValueError as error:  # msgspec's and pydantic's ValidationError both are one
            raise SchemaMismatch(f"the stored session does not fit {self.model.__name__}: {error}") from error

    def dump(self, typed: Any) -> dict[str, Any]:
        """The fields of a typed object, as values the codec stores."""
        fields = (
            typed.model_dump()
            if self._pydantic
            else msgspec.structs.asdict(typed)
            if isinstance(typed, msgspec.Struct)
            else vars(typed)
        )
        plain: dict[str, Any] = msgspec.to_builtins(fields, builtin_types=_KEPT)
        return plain
