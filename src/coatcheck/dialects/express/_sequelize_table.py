"""The table of connect-session-sequelize, as Sequelize makes it and writes it on each database (wire formats 1.5).

Times are whole milliseconds since the epoch here, as JavaScript's are. What becomes of them is Sequelize's choice: TIMESTAMPTZ on
PostgreSQL; on MySQL and MariaDB a DATETIME without zone, in whole seconds; on SQLite `YYYY-MM-DD HH:mm:ss.SSS +00:00`, text that
sorts by time, since Sequelize writes no other offset there. `timezone` is Sequelize's option of that name: where a column has no
zone of its own, both sides must mean the same one.
"""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

from sqlalchemy import Column, MetaData, String, Table, Text, bindparam, cast
from sqlalchemy.dialects.mysql import BINARY, CHAR, DATETIME
from sqlalchemy.dialects.postgresql import TIMESTAMP
from sqlalchemy.engine import Dialect
from sqlalchemy.sql import ColumnElement
from sqlalchemy.types import DateTime, TypeDecorator, TypeEngine, UserDefinedType

from coatcheck.errors import ConfigurationError, StoreError
from coatcheck.stores._sqlalchemy_tables import MYSQL

__all__ = ["DATABASES", "LONGEST", "Moment", "exactly", "milliseconds", "offset_of", "table"]

DATABASES: Final = ("postgresql", *MYSQL, "sqlite")
LONGEST: Final = 36
"""Characters of a sid: STRING(36) of the package's model."""
_WITHOUT_SCHEMAS: Final = ("mysql", "sqlite")
"""Where Sequelize makes one long name of a schema and a table's. (To its `mariadb` a schema is a database.)"""
_NAME: Final = re.compile(r"[^\x00-\x1f\"'`\[\];%\\]{1,63}")
_OFFSET: Final = re.compile(r"([+-])(\d\d):(\d\d)")
_BEFORE_OFFSET: Final = re.compile(r"(?<!\s)\s{1,9}(?=[+-]\d\d:?\d\d$)")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_LAST: Final = (datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH) // _MILLISECOND
"""The end of MySQL's time, and of Python's."""


def milliseconds(seconds: float) -> int:
    """Of a time in seconds, within what every database can keep."""
    return round(min(max(seconds * 1000, 0), _LAST))


def offset_of(name: object, dialect: str) -> timezone:
    """The zone that Sequelize's `timezone` names. Raises ConfigurationError for one with a summer time: it has an hour twice."""
    found = _OFFSET.fullmatch(name) if isinstance(name, str) else None
    if found is None or int(found[2]) > 14 or int(found[3]) > 59:
        raise ConfigurationError(
            f"timezone={name!r}: give an offset, as Sequelize's own default '+00:00'; a zone with a summer time has one hour"
            " twice, and sessions of that hour would end too soon or too late"
        )
    distance = timedelta(hours=int(found[2]), minutes=int(found[3]))
    if distance and dialect == "sqlite":
        raise ConfigurationError(f"timezone={name!r}: on SQLite Sequelize has none but '+00:00'")
    return timezone(distance if found[1] == "+" else -distance)


class _AsText(UserDefinedType[str]):
    """What SQLite keeps in a column that is declared a DATETIME: text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """The declaration."""
        return "DATETIME"


class Moment(TypeDecorator[int]):
    """A DATE of Sequelize's; milliseconds to us. Raises StoreError for a column that holds no such thing."""

    impl = DateTime
    cache_ok = True

    def __init__(self, offset: timezone = UTC) -> None:
        super().__init__()
        self.offset = offset

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """The column type that Sequelize takes."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(_AsText())
        return dialect.type_descriptor(DATETIME() if dialect.name in MYSQL else TIMESTAMP(timezone=True))

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:
        """As Sequelize writes it."""
        if value is None:
            return None
        there = (_EPOCH + value * _MILLISECOND).astimezone(self.offset)
        if dialect.name in MYSQL:
            return there.replace(tzinfo=None)
        return _written(there) if dialect.name == "sqlite" else there

    def process_result_value(self, value: Any, dialect: Dialect) -> int | None:
        """As Sequelize reads it."""
        if value is None:
            return None
        there = _read(value)
        has_zone = there is not None and there.tzinfo is not None
        if there is None or (not has_zone and dialect.name == "postgresql"):
            raise StoreError(
                "the table is not Sequelize's: a time in it is a"
                f" {type(value).__name__}{' without time zone' if there else ''}, and not what DataTypes.DATE makes"
            )
        return ((there if has_zone else there.replace(tzinfo=self.offset)) - _EPOCH) // _MILLISECOND


def _written(there: datetime) -> str:
    text = there.isoformat(" ", "milliseconds")
    return f"{text[:-6]} {text[-6:]}"


def _read(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value
    try:
        return datetime.fromisoformat(_BEFORE_OFFSET.sub("", value))
    except (TypeError, ValueError):
        return None


def exactly(column: ColumnElement[Any], name: str, dialect: str) -> ColumnElement[bool]:
    """Whether a column holds the very text of a parameter. MySQL's collations take `a` for `A`, and pass over spaces at the end:
    there the octets are compared. (No index knows of them: ask for the text as well, where there is one.)
    """
    text = bindparam(name, type_=String())
    return _octets(column) == _octets(text) if dialect in MYSQL else column == text


def _octets(text: ColumnElement[Any]) -> ColumnElement[Any]:
    return cast(cast(text, CHAR(charset="utf8mb4")), BINARY())


def table(name: str, schema: str | None, dialect: str, offset: timezone, more: Sequence[str] = ()) -> Table:
    """The table that `sequelize.sync()` makes, `more` columns of the application's in it. Raises ConfigurationError for a name
    that is none.
    """
    _insist_on_name("table_name", name)
    if schema is not None:
        _insist_on_name("schema", schema)
    if schema is not None and dialect in _WITHOUT_SCHEMAS:
        name, schema = f"{schema}.{name}", None
    options: Any = {f"{each}_engine": "InnoDB" for each in MYSQL}
    moment = Moment(offset)
    return Table(
        name,
        MetaData(),
        Column("sid", String(LONGEST), primary_key=True),
        Column("expires", moment),
        Column("data", Text),
        Column("createdAt", moment, nullable=False),
        Column("updatedAt", moment, nullable=False),
        *(Column(each) for each in more),
        schema=schema,
        **options,
    )


def _insist_on_name(setting: str, given: object) -> None:
    if not (isinstance(given, str) and _NAME.fullmatch(given)):
        raise ConfigurationError(
            f"{setting}={given!r}: give a name of 1 to 63 characters, without quotes and backslashes"
        )
