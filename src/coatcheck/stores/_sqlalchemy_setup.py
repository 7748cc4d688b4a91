"""Making the tables: what is missing, piece by piece, however many processes do it at once; and knowing whose they are."""

from typing import Final

from sqlalchemy import Connection, Inspector, Table, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable

from coatcheck.errors import ConfigurationError
from coatcheck.stores._sqlalchemy_errors import Trouble, trouble
from coatcheck.stores._sqlalchemy_tables import Tables

__all__ = ["set_up"]

ROUNDS: Final = 100
"""How often to look again after another process was making the same piece."""


def set_up(db: Connection, made: Tables) -> None:
    """Make what is missing. Raises ConfigurationError for a table that is not ours."""
    if db.dialect.name == "sqlite":
        db.exec_driver_sql("PRAGMA journal_mode = WAL")
    for left in range(ROUNDS, -1, -1):
        missing = _missing(db, made)
        if missing is None:
            return
        try:
            db.execute(missing)
        except DBAPIError as error:
            # Most likely another process was quicker, which the next look tells.
            if not left or trouble(error) is Trouble.LOST:
                raise


def _missing(db: Connection, made: Tables) -> CreateTable | CreateIndex | None:
    """The first piece that is missing."""
    inspector = inspect(db)
    for table in made:
        if not inspector.has_table(table.name, schema=table.schema):
            return CreateTable(table)
        _insist_on_ours(inspector, table)
        there = {index["name"] for index in inspector.get_indexes(table.name, schema=table.schema)}
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index.name not in there:
                return CreateIndex(index)
    return None


def _insist_on_ours(inspector: Inspector, table: Table) -> None:
    there = {column["name"] for column in inspector.get_columns(table.name, schema=table.schema)}
    if missing := {column.name for column in table.columns} - there:
        raise ConfigurationError(
            f"the table {table.fullname} is another application's, or of another release: it has no column "
            f"{', '.join(sorted(missing))}; give SQLAlchemyStore(…, prefix=) another prefix"
        )
