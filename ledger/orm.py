"""The declarative base on which every room maps its tables."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import MetaData, Numeric, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase

_TYPES = {
    str: Text(),
    datetime: TIMESTAMP(timezone=True),
    Decimal: Numeric(),
    UUID: Uuid(),
    dict[str, Any]: JSONB(),
    dict[str, str]: JSONB(),
}
"""How each Python type is kept in Postgres."""


class Base(DeclarativeBase):
    metadata = MetaData()
    type_annotation_map = _TYPES
