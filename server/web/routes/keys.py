"""API keys, by REST: what `rlt keys` does on the server's machine."""

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import Field, field_validator

from server.configs import Scope
from server.service import Parts
from server.state.keys import LONGEST_NAME, Key
from server.web.access import needs
from server.wire import Answer, Body

router = APIRouter(prefix="/v1/admin/keys", tags=["admin"], dependencies=[needs("admin")])


class KeyRequest(Body):
    """A key to be made."""

    name: str = Field(min_length=1, max_length=LONGEST_NAME, examples=["laptop"])
    """To know it by; printable characters."""
    scopes: tuple[Scope, ...] = Field(("explain", "datasets"), min_length=1)
    """What it may do: explain (also scores and chat), datasets (also files and batches), admin."""

    @field_validator("name")
    @classmethod
    def _is_a_line(cls, name: str) -> str:
        if not name.isprintable() or not name.strip():
            raise ValueError("must be printable characters on one line")
        return name


class ApiKeyState(Answer):
    """What is known of a key; the key itself is not."""

    id: str
    object: Literal["api_key"] = "api_key"
    name: str
    scopes: tuple[str, ...]
    created_at: int
    revoked_at: int | None


class NewKey(ApiKeyState):
    """A key that was just made."""

    key: str
    """What callers send as `Authorization: Bearer KEY`; shown this once."""


class KeyList(Answer):
    """All keys."""

    object: Literal["list"] = "list"
    data: list[ApiKeyState]


@router.post("", status_code=201, summary="Create a key")
async def create_key(request: Request, body: KeyRequest) -> NewKey:
    """The answer alone holds the key. Once there is a key, every request needs one."""
    parts: Parts = request.app.state.parts
    known, text = await parts.keys.create(body.name, body.scopes)
    return NewKey(**vars(known), key=text)


@router.get("", summary="List keys")
async def list_keys(request: Request) -> KeyList:
    """In the order of their creation, revoked ones too; the one in RLT_SERVICE_KEY is not among them."""
    parts: Parts = request.app.state.parts
    return KeyList(data=[_state(key) for key in await parts.keys.all()])


@router.delete("/{key_id}", summary="Revoke a key")
async def revoke_key(request: Request, key_id: str) -> ApiKeyState:
    """It opens nothing any more: in this process at once, in others within 2 seconds. Revoking the last one does not
    open the service to everybody; `rlt keys create` makes another."""
    parts: Parts = request.app.state.parts
    return _state(await parts.keys.revoke(key_id))


def _state(key: Key) -> ApiKeyState:
    return ApiKeyState(**vars(key))
