"""OpenAI's files: inputs of batches and datasets, outputs of batches. Uploads and downloads are never held whole."""

import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from starlette.datastructures import FormData, UploadFile

from server.datasets.dataset_requests import limits_of
from server.errors import ApiError
from server.service import Parts
from server.state.storage import CHUNK_BYTES
from server.web.access import needs
from server.web.openai_objects import EXPIRY_SECONDS, PURPOSES, FileDeleted, FileObject, FilePurpose
from server.wire import Page

router = APIRouter(prefix="/v1/files", tags=["files"], dependencies=[needs("datasets")])
FORM_SCHEMA: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "purpose"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "Its name says its format."},
                        "purpose": {"type": "string", "enum": list(PURPOSES)},
                        "expires_after[anchor]": {"type": "string", "enum": ["created_at"]},
                        "expires_after[seconds]": {
                            "type": "integer",
                            "minimum": EXPIRY_SECONDS[0],
                            "maximum": EXPIRY_SECONDS[1],
                        },
                    },
                }
            }
        },
    }
}
FORM_FIELDS = ("file", "purpose", "expires_after[anchor]", "expires_after[seconds]")


@router.post("", openapi_extra=FORM_SCHEMA, summary="Upload a file")
async def create_file(request: Request) -> FileObject:
    """`purpose` is batch for the requests of a batch, user_data for the problems of a dataset (JSONL, JSON, CSV or
    Parquet, as its name says)."""
    parts: Parts = request.app.state.parts
    async with request.form(max_files=1, max_fields=len(FORM_FIELDS)) as form:
        upload, purpose, seconds = _read_form(form)
        return await keep(parts, upload, purpose, None if seconds is None else int(time.time()) + seconds)


async def keep(parts: Parts, upload: UploadFile, purpose: str, expires_at: int | None = None) -> FileObject:
    """The file of a form, stored."""
    longest = limits_of(parts).upload_bytes
    name, chunks = upload.filename or "", _chunks(upload)
    file = await parts.files.save(name, purpose, chunks, limit_bytes=longest, expires_at=expires_at)
    return FileObject.of(file)


@router.get("", summary="List files")
async def list_files(
    request: Request,
    after: str | None = None,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 10_000,
    order: Literal["asc", "desc"] = "desc",
    purpose: FilePurpose | Literal["batch_output"] | None = None,
) -> Page[FileObject]:
    """Newest first, unless `order` says otherwise."""
    parts: Parts = request.app.state.parts
    files, has_more = await parts.files.page(after=after, limit=limit, order=order, purpose=purpose)
    return Page.of([FileObject.of(file) for file in files], [file.id for file in files], has_more)


@router.get("/{file}", summary="One file")
async def get_file(request: Request, file: str) -> FileObject:
    """What is known of it."""
    parts: Parts = request.app.state.parts
    return FileObject.of(await parts.files.get(file))


@router.get(
    "/{file}/content",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/octet-stream": {}}}},
    summary="Download a file",
)
async def get_content(request: Request, file: str) -> Response:
    """The very bytes that were uploaded, or that a batch left."""
    parts: Parts = request.app.state.parts
    found = await parts.files.get(file)
    chunks = parts.files.stream(found.id)
    first = await anext(chunks, b"")

    async def all_chunks() -> AsyncIterator[bytes]:
        yield first
        async for chunk in chunks:
            yield chunk

    headers = {
        "content-length": str(found.bytes),
        "content-disposition": "attachment",  # a browser never shows what somebody uploaded
        "x-content-type-options": "nosniff",
        "cache-control": "no-store",
    }
    return StreamingResponse(all_chunks(), media_type="application/octet-stream", headers=headers)


@router.delete("/{file}", summary="Delete a file")
async def delete_file(request: Request, file: str) -> FileDeleted:
    """Batches and datasets that have begun keep what they read of it."""
    parts: Parts = request.app.state.parts
    await parts.files.delete(file)
    return FileDeleted(id=file)


async def _chunks(upload: UploadFile) -> AsyncIterator[bytes]:
    while chunk := await upload.read(CHUNK_BYTES):
        yield chunk


def _read_form(form: FormData) -> tuple[UploadFile, str, int | None]:
    """File, purpose, and seconds until it expires; raises ApiError, 400 as OpenAI answers."""
    unknown = sorted(set(form) - set(FORM_FIELDS))
    if unknown:
        raise ApiError(f"{unknown[0][:80]}: is not known here; send {', '.join(FORM_FIELDS)}", param=unknown[0][:80])
    upload, purpose = form.get("file"), form.get("purpose")
    if not isinstance(upload, UploadFile):
        raise ApiError("file: is required, as multipart/form-data with a file name", param="file", code="missing_file")
    if purpose not in PURPOSES:
        raise ApiError(
            f"purpose: must be one of {', '.join(PURPOSES)}, got {purpose!r}", param="purpose", code="invalid_value"
        )
    return upload, str(purpose), _expiry(form.get("expires_after[anchor]"), form.get("expires_after[seconds]"))


def _expiry(anchor: Any, seconds: Any) -> int | None:
    if anchor is None and seconds is None:
        return None
    least, most = EXPIRY_SECONDS
    whole = isinstance(seconds, str) and len(seconds) < 10 and seconds.isascii() and seconds.isdecimal()
    if anchor != "created_at" or not whole or not least <= int(seconds) <= most:
        raise ApiError(
            f"expires_after: anchor created_at and {least} to {most} seconds are taken, got {anchor!r}, {seconds!r}",
            param="expires_after",
            code="invalid_value",
        )
    return int(seconds)
