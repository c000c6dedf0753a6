"""What only an operator does: other weights while serving, and a look at who works."""

import time

from fastapi import APIRouter, Request
from pydantic import Field

from server.service import Parts
from server.web.access import needs
from server.web.answering import the_teachers
from server.web.routes.models import Model, served
from server.wire import Answer, Body

router = APIRouter(prefix="/v1/admin", tags=["admin"], dependencies=[needs("admin")])


class SwapRequest(Body):
    """Another checkpoint of the teacher."""

    folder: str = Field(min_length=1, max_length=1000, examples=["runs/teacher/checkpoint-200"])
    """Its folder, where the service and its engine can read it; same architecture and tokenizer as the present one."""


class AdapterRequest(Body):
    """A LoRA adapter on the teacher."""

    name: str = Field(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", examples=["algebra"])
    """What requests call it (`model`)."""
    folder: str = Field(min_length=1, max_length=1000, examples=["runs/algebra-lora"])
    """Its folder, where the service and its engine can read it."""


class WorkerState(Answer):
    """A process that works on datasets and batches."""

    id: str
    host: str
    pid: int
    units: int
    """Units that it works on at a time; 0: it only takes requests."""
    alive: bool
    """It gave a sign of life within takeover_seconds."""
    started_at: int
    heartbeat_at: int


class WorkerList(Answer):
    """All workers that are known."""

    object: str = "list"
    data: list[WorkerState]


@router.post("/teacher", summary="Serve another checkpoint")
async def swap_teacher(request: Request, body: SwapRequest) -> Model:
    """Running explanations end with the weights they began with, new ones wait until the others are loaded; none is
    lost, and each names the weights that wrote it."""
    parts: Parts = request.app.state.parts
    if parts.teachers is None and parts.student is not None:
        await parts.student.reload_teacher(body.folder)  # asked by the service that it scores for
    else:
        await the_teachers(parts).swap(body.folder)
    return served(parts)[0]


@router.post("/adapters", status_code=201, summary="Load a LoRA adapter")
async def load_adapter(request: Request, body: AdapterRequest) -> Model:
    """Serves the adapter beside the teacher; one of the same name is replaced."""
    await the_teachers(request.app.state.parts).load_adapter(body.name, body.folder)
    return next(model for model in served(request.app.state.parts) if model.id == body.name)


@router.delete("/adapters/{name}", status_code=204, summary="Unload a LoRA adapter")
async def unload_adapter(request: Request, name: str) -> None:
    """Its running explanations end first."""
    await the_teachers(request.app.state.parts).unload_adapter(name)


@router.get("/workers", summary="Who works on datasets and batches")
async def list_workers(request: Request) -> WorkerList:
    """Every process that said it works here, and whether it is alive."""
    parts: Parts = request.app.state.parts
    dead_before = time.time() - parts.config.takeover_seconds
    return WorkerList(
        data=[
            WorkerState(
                id=worker.id,
                host=worker.host,
                pid=worker.pid,
                units=worker.units,
                alive=worker.heartbeat_at >= dead_before,
                started_at=worker.started_at,
                heartbeat_at=worker.heartbeat_at,
            )
            for worker in await parts.jobs.workers()
        ]
    )
