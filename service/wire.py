"""Reading of request bodies: JSON once, then one model per wire format, every field at fault named.

orjson parses (and refuses lone surrogates, NaN and bytes that are not UTF-8), pydantic checks. A `StrictBody`
coerces nothing and refuses unknown keys by name. A `TolerantBody` takes what the clients of a foreign dialect
really send: `"true"` for true, null for an option left alone, keys nobody has heard of.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeVar

import orjson
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from service.errors import FieldError, InvalidFieldsError, InvalidJsonError

# A caller learns from the first few; a thousand null documents must not make a megabyte of answer.
MAX_FIELD_ERRORS = 20
MAX_FIELD_CHARACTERS = 100
MAX_PRIORITY = 999

Fields = Mapping[str, Any]
M = TypeVar("M", bound=BaseModel)


def _refuse_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be empty or white space")
    return text


def as_list(value: object) -> object:
    """A string as a list of one; anything else as it is."""
    return [value] if isinstance(value, str) else value


StringOrStrings = Annotated[list[str], BeforeValidator(as_list, json_schema_input_type=str | list[str])]
Query = Annotated[str, AfterValidator(_refuse_blank), Field(description="The search text; not blank.")]
Instruction = Annotated[
    str | None, Field(description="What counts as relevant, in the caller's words; null: the template's default.")
]
InstructionAlias = Annotated[
    str | None,
    Field(
        validation_alias=AliasChoices("instruction", "instruct"),
        description="What counts as relevant, in the caller's words; `instruct` is the same.",
    ),
]


def _within_priorities(value: object) -> object:
    return min(max(value, 0), MAX_PRIORITY) if isinstance(value, int) else value


TimeoutMs = Annotated[
    int | None,
    Field(
        ge=1, description="Answer within so many milliseconds of the request's arrival, or refuse. Null: no deadline."
    ),
]
Priority = Annotated[
    int | None,
    BeforeValidator(_within_priorities),
    Field(description=f"0 is served before 1, up to {MAX_PRIORITY}; null: 0."),
]


class StrictBody(BaseModel):
    """A body of our own dialect."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class TolerantBody(BaseModel):
    """A body of somebody else's dialect."""

    model_config = ConfigDict(extra="ignore", frozen=True, populate_by_name=True)

    timeout_ms: TimeoutMs = None
    priority: Priority = None

    @model_validator(mode="before")
    @classmethod
    def _leave_null_alone(cls, fields: object) -> object:
        # Dropped before the names are matched, so that a null `instruction` does not hide an `instruct`.
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}


def parse_json(body: bytes) -> object:
    """The value of a JSON body.

    Raises:
        InvalidJsonError: it is not JSON.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidJsonError(f"the body is not JSON: {error}") from error


def as_fields(value: object) -> Fields:
    """`value` as the fields of a request.

    Raises:
        InvalidFieldsError: it is not a JSON object.
    """
    if not isinstance(value, dict):
        raise InvalidFieldsError([FieldError("body", "must be a JSON object", "dict_type")])
    return value


def validate(model: type[M], fields: Fields) -> M:
    """`fields` as a `model`.

    Raises:
        InvalidFieldsError: every field at fault is named, up to MAX_FIELD_ERRORS of them.
    """
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise InvalidFieldsError(_field_errors(error)) from error


def refuse_too_many(fields: Fields, names: Sequence[str], max_entries: int) -> None:
    """Refuse a list longer than `max_entries` before anything looks at its entries.

    Raises:
        InvalidFieldsError: the first of `names` that is too long.
    """
    for name in names:
        entries = fields.get(name)
        if isinstance(entries, list) and len(entries) > max_entries:
            message = f"{len(entries)} entries, at most {max_entries} are taken"
            raise InvalidFieldsError([FieldError(name, message, "too_long")])


def unknown_fields(model: type[BaseModel], fields: Fields) -> list[str]:
    """Keys of `fields` that `model` does not know, cut to what an answer may repeat."""
    known: set[str] = set()
    for name, field in model.model_fields.items():
        known.add(name)
        if isinstance(field.validation_alias, AliasChoices):
            known.update(str(choice) for choice in field.validation_alias.choices)
    return [name[:MAX_FIELD_CHARACTERS] for name in fields if name not in known][:MAX_FIELD_ERRORS]


def _field_errors(error: ValidationError) -> list[FieldError]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [
        FieldError(".".join(map(str, one["loc"]))[:MAX_FIELD_CHARACTERS], one["msg"], one["type"])
        for one in found[:MAX_FIELD_ERRORS]
    ]
