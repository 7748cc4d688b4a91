"""Making the table of connect-session-sequelize as `sequelize.sync()` would, and knowing whether a table that is there is one."""

from typing import Any, Final

from sqlalchemy import Connection, Table, inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateTable
from sqlalchemy.types import DATETIME, TIMESTAMP, String

from coatcheck.errors import StoreError
from coatcheck.stores._sqlalchemy_errors import Trouble, trouble
from coatcheck.stores._sqlalchemy_tables import MYSQL

__all__ = ["not_ours", "set_up"]

ROUNDS: Final = 20
"""How often to look again after another process was making the table."""
MOMENTS: Final = ("expires", "createdAt", "updatedAt")


def set_up(db: Connection, made: Table) -> None:
    """Make the table if it is missing. Raises StoreError for one that is not Sequelize's: it is left as it is."""
    for left in range(ROUNDS, -1, -1):
        if inspect(db).has_table(made.name, schema=made.schema):
            return _insist(db, made)
        try:
            db.execute(CreateTable(made, if_not_exists=True))
        except DBAPIError as error:
            # Most likely another process was quicker, which the next look tells.
            if not left or trouble(error) is Trouble.LOST:
                raise


def _insist(db: Connection, made: Table) -> None:
    there = {column["name"]: column["type"] for column in _columns(db, made)}
    missing = [column.name for column in made.columns if column.name not in there]
    if missing:
        raise not_ours(made, f"it has no column {', '.join(missing)}")
    for name in ("sid", "data"):
        if not isinstance(there[name], String):
            raise not_ours(made, f"its column {name} is no text, but {there[name]!r}")
    for name in MOMENTS:
        if not _is_moment(db.dialect.name, there[name]):
            raise not_ours(made, f"its column {name} is {there[name]!r}, and not what DataTypes.DATE makes")


def _columns(db: Connection, made: Table) -> list[Any]:
    return list(inspect(db).get_columns(made.name, schema=made.schema))


def _is_moment(dialect: str, kind: Any) -> bool:
    if dialect == "postgresql":  # without a zone, each connection's own would decide when a session ends
        return isinstance(kind, TIMESTAMP) and bool(kind.timezone)
    # A TIMESTAMP of MySQL's goes through the zone of the connection.
    return isinstance(kind, DATETIME) if dialect in MYSQL else True


def not_ours(made: Table, why: str) -> StoreError:
    """What to raise for such a table."""
    return StoreError(
        f"the table {made.fullname} is not connect-session-sequelize's: {why}; give the table's name (table_name=, schema=), or"
        " have it made by Node's store.sync(), or by setup() here"
    )
