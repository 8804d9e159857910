"""The declarative base on which every room maps its tables."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import MetaData, Numeric, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase


class Base(DeclarativeBase):
    metadata = MetaData()
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy at class creation, never changed
        str: Text(),
        datetime: TIMESTAMP(timezone=True),
        Decimal: Numeric(),
        UUID: Uuid(),
        dict[str, Any]: JSONB(),
        dict[str, str]: JSONB(),
    }
