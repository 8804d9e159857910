"""The shapes that the API's description is put together from: exact numbers, times, objects without further members."""

from typing import Any

Json = dict[str, Any]


def object_of(properties: Json, *, required: list[str] | None = None) -> Json:
    """An object with these members and no others; all of them are there unless `required` names fewer."""
    names = list(properties) if required is None else required
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def or_null(schema: Json) -> Json:
    """The same, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def ref(name: str) -> Json:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


TEXT: Json = {"type": "string"}
WHOLE: Json = {"type": "integer"}
EXACT: Json = {"type": "string", "pattern": r"^-?\d+(\.\d+)?$", "description": "An exact decimal number, as text."}
SENT: Json = {
    "anyOf": [{"type": "string"}, {"type": "number"}],
    "description": "An exact decimal number, as text or as a JSON number; every digit counts.",
}
TIME: Json = {"type": "string", "format": "date-time"}
UUID: Json = {"type": "string", "format": "uuid"}
