"""What a form holds, as the body of the REST call that it stands for, held against the same rules."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.datastructures import FormData

from server.web.problems import complaint

B = TypeVar("B", bound=BaseModel)


def texts(form: FormData) -> dict[str, str]:
    """The fields that are filled in. Browsers send every newline of a text as CR LF; the API's callers do not."""
    return {
        name: value.replace("\r\n", "\n") for name, value in form.items() if isinstance(value, str) and value.strip()
    }


def body(kind: type[B], values: Mapping[str, Any]) -> B:
    """The values as a request of this kind; raises Invalid, naming the field, as the API does."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise complaint([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error


def body_of_json(kind: type[B], text: str) -> B:
    """As `body`, of what a page sent along as JSON."""
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise complaint([{**each, "loc": ("body", *each["loc"])} for each in error.errors()]) from error
