"""What is served: the teacher, its adapters and the student, in OpenAI's shape with our fields beside it."""

import time
from typing import Literal

from fastapi import APIRouter, Request

from server.errors import NotFound
from server.service import Parts
from server.web.access import needs
from server.wire import Answer

router = APIRouter(prefix="/v1/models", tags=["models"], dependencies=[needs()])
STARTED = int(time.time())


class Model(Answer):
    """A model that is served; the first of the list is the teacher that is used where a request names none."""

    id: str
    """What requests call it."""
    object: Literal["model"] = "model"
    created: int
    """When the service began to serve."""
    owned_by: str = "rlt"
    role: Literal["teacher", "adapter", "student"]
    digest: str
    """Of its weights; every explanation and score names the ones it was made with."""


class ModelList(Answer):
    """All models."""

    object: Literal["list"] = "list"
    data: list[Model]


@router.get("", summary="List what is served")
async def list_models(request: Request) -> ModelList:
    """The teacher first, then its adapters, then the student."""
    return ModelList(data=served(request.app.state.parts))


@router.get("/{model:path}", summary="One model")
async def get_model(request: Request, model: str) -> Model:
    """The model of that name."""
    models = served(request.app.state.parts)
    for each in models:
        if each.id == model:
            return each
    names = ", ".join(repr(each.id) for each in models)
    raise NotFound(f"model: there is no {model[:200]!r}; there is {names}", param="model", code="model_not_found")


def served(parts: Parts) -> list[Model]:
    """All models of the service."""
    found = [
        Model(id=each.name, created=STARTED, role="adapter" if each.adapter else "teacher", digest=each.digest)
        for each in (parts.teachers.models() if parts.teachers is not None else ())
    ]
    if parts.student is not None:
        found.append(Model(id=parts.student.name, created=STARTED, role="student", digest=parts.student.digest))
    return found
