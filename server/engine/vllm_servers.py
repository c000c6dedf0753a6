"""A teacher on one or many vLLM servers, over HTTP: token ids in, ids and text out.

Which server gets a request, and what happens where one does not answer, is vllm_pool.py. A sample depends on its prompt
and seed alone, so asking twice does no harm; only one that has begun to stream is not begun again.

A server that was started again has forgotten the weights and adapters it was given since. That is noticed by its new
connections: before an answer over one counts, the server is asked for what it holds, and gets it once more. Left out:
deciding what overload is (the service gates).
"""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeVar, cast

import aiohttp

from server.engine.protocol import Generated, Generation, Piece, ServerState, room_for
from server.engine.vllm_pool import FAILURES, PATIENCE_SECONDS, NotNow, Pool, Server, now, reason
from server.errors import EngineRefused, EngineUnavailable, ServerError

KEY_VARIABLE = "RLT_ENGINE_KEY"
"""The servers' API key, where they have one."""
_COMPLETIONS = "/v1/completions"
_KEEP_ALIVE_SECONDS = 4.0  # vLLM closes an idle connection after 5
T = TypeVar("T")
_QUESTION = aiohttp.ClientTimeout(total=10)


class VllmServers:
    """Speaks to vLLM's OpenAI server at each of some addresses; `open` it before use.

    `end_ids` end a sample; `concurrency` requests are given to one server at a time. `key` is the servers' API key,
    unset is RLT_ENGINE_KEY.
    """

    name: Literal["vllm"] = "vllm"

    def __init__(self, urls: Sequence[str], end_ids: Sequence[int], concurrency: int, key: str | None = None) -> None:
        self.version = "unknown"
        self.context_tokens: int | None = None
        self.weights: str | None = None
        """Where the present weights came from, as `reload` named it; None: the servers have those they began with."""
        self.api_key = key or os.environ.get(KEY_VARIABLE)
        self._pool = Pool([Server(url.rstrip("/")) for url in urls], concurrency)
        self.places = concurrency * len(urls)
        self._end_ids = list(end_ids)
        self._adapters: dict[str, str] = {}
        self._session = _session(self.api_key)

    @property
    def addresses(self) -> list[str]:
        """Of the servers, without a trailing slash."""
        return [server.url for server in self._pool.servers]

    @property
    def model(self) -> str:
        """The name under which the servers serve the teacher; the first one's where they differ."""
        return next(server.model for server in self._pool.servers if server.model)

    async def open(self) -> None:
        """Meets the servers; raises ServerError where none answers. Those that do not are met when they do."""
        met = await asyncio.gather(*map(self._meet, self._pool.servers), return_exceptions=True)
        for server, error in zip(self._pool.servers, met, strict=True):
            if isinstance(error, FAILURES) and any(each is None for each in met):
                server.failed()
            elif isinstance(error, FAILURES):
                raise ServerError(
                    f"engine_urls: vLLM at {server.url} does not answer ({reason(error)}); start it or mend the address"
                ) from error
            elif isinstance(error, EngineRefused):
                raise ServerError(f"engine_urls: {server.url}: {error}") from error
            elif error is not None:
                raise error

    async def generate(self, asked: Generation) -> Generated:
        """One sample, whole; see server.engine.protocol.TeacherEngine."""
        body = self._body(asked)
        answer = await self._answer(_COMPLETIONS, body)
        choice = answer["choices"][0]
        finished = _finished(choice)
        ids = self._without_end(choice["token_ids"])
        logps = choice["logprobs"]["token_logprobs"][: len(ids)] if "logprobs" in body else []
        return Generated(ids, choice["text"], logps, finished)

    async def stream(self, asked: Generation) -> AsyncGenerator[Piece, None]:
        """One sample as it is made; raises EngineUnavailable where it breaks off."""
        body = self._body(asked) | {"stream": True}
        server, response = await self._pool.ask(lambda server: self._begin(server, _COMPLETIONS, body))
        starts, whole = server.starts, False
        try:
            async for choice in _choices(response):
                finished = _finished(choice) if choice["finish_reason"] else None
                if server.starts != starts:
                    raise NotNow("it was started again")
                whole = finished is not None
                yield Piece(self._without_end(choice["token_ids"]), choice["text"], finished)
            if not whole:
                raise NotNow("the stream ended")
        except FAILURES as error:
            raise EngineUnavailable(f"vLLM at {server.url} broke off a sample ({reason(error)}); ask again") from error
        finally:
            response.close()
            self._pool.leave(server)

    async def logps(self, token_ids: Sequence[int], adapter: str | None = None) -> list[float]:
        """log p of every token but the first given those before it, at temperature 1."""
        room_for(len(token_ids) - 1, 1, self.context_tokens)
        body = {"prompt": list(token_ids), "max_tokens": 0, "echo": True, "logprobs": 0, "temperature": 1.0}
        answer = await self._answer(_COMPLETIONS, body | ({"model": adapter} if adapter else {}))
        logps: list[float] = answer["choices"][0]["logprobs"]["token_logprobs"][1:]
        return logps

    async def health(self) -> None:
        """Returns where one of the servers is well; raises EngineUnavailable with the reasons where none is."""
        states = await self.servers()
        if all(state.unwell for state in states):
            told = "; ".join(f"{state.address}: {state.unwell}" for state in states)
            raise EngineUnavailable(f"no vLLM server answers: {told}")

    async def servers(self) -> list[ServerState]:
        """Each server; all are asked now."""
        reasons = await asyncio.gather(*(self._unwell(server) for server in self._pool.servers))
        return [
            ServerState(server.url, unwell, server.in_flight)
            for server, unwell in zip(self._pool.servers, reasons, strict=True)
        ]

    async def reload(self, model: str) -> None:
        """New weights on every server, from a folder that all of them can read; where one refuses, all go back."""
        before = await self._on_all(self._held)
        try:
            await self._on_all(lambda server: self._exchange(server, model))
        except (EngineRefused, EngineUnavailable):
            with suppress(EngineRefused, EngineUnavailable):
                held = dict(zip(self._pool.servers, before, strict=True))
                await self._on_all(lambda server: self._exchange(server, held[server]["weights"]))
            raise
        self.weights = model

    async def load_adapter(self, name: str, folder: str) -> None:
        """Loads the adapter on every server; raises EngineRefused where one does not take it."""
        again = self._adapters.get(name) == folder
        try:
            await self._on_all(lambda server: self._load_adapter(server, name, folder))
        except (EngineRefused, EngineUnavailable):
            with suppress(EngineRefused, EngineUnavailable):
                await self.unload_adapter(name)
            raise
        self._adapters[name] = folder
        if again:  # vLLM's prefix cache knows an adapter by name and folder
            await self._on_all(self._forget_prefixes)

    async def unload_adapter(self, name: str) -> None:
        """Forgets the adapter on every server."""
        self._adapters.pop(name, None)
        await self._on_all(lambda server: self._unload_adapter(server, name))

    async def close(self) -> None:
        """Ends the connections; the servers run on."""
        await self._session.close()

    def _body(self, asked: Generation) -> dict[str, Any]:
        body: dict[str, Any] = {
            "prompt": list(asked.prompt_ids),
            "seed": asked.seed,
            "max_tokens": room_for(len(asked.prompt_ids), asked.max_tokens, self.context_tokens),
            "temperature": asked.temperature,
            "top_p": asked.top_p,
            "stop_token_ids": self._end_ids,
            "ignore_eos": True,  # the end tokens are the ones above, whatever the server's tokenizer says
            "skip_special_tokens": False,
            "return_token_ids": True,
        }
        if asked.stop:
            body["stop"] = list(asked.stop)
        if asked.logps and (asked.top_p == 1 or asked.temperature == 0):  # vLLM's are those after top-p
            body["logprobs"] = 0
        if asked.adapter:
            body["model"] = asked.adapter
        return body

    def _without_end(self, token_ids: list[int]) -> list[int]:
        return token_ids[:-1] if token_ids and token_ids[-1] in self._end_ids else token_ids

    async def _answer(self, path: str, body: dict[str, Any]) -> Any:
        server, answer = await self._pool.ask(lambda server: self._post(server, path, body))
        self._pool.leave(server)
        return answer

    async def _post(self, server: Server, path: str, body: dict[str, Any]) -> Any:
        starts = server.starts
        async with await self._begin(server, path, body) as response:
            answer = await response.read()
        if server.starts != starts:
            raise NotNow("it was started again")
        return json.loads(answer)

    async def _begin(self, server: Server, path: str, body: dict[str, Any]) -> aiohttp.ClientResponse:
        """The answer's head, where it is 200; raises EngineRefused or NotNow where it is not."""
        if not server.model:
            await self._meet(server)
        starts = server.starts
        response = await self._send(server, path, {"model": server.model, **body})
        try:
            await self._look(server)
            if server.starts != starts:
                raise NotNow("it was started again")
            await _refusal(response)
        except BaseException:
            response.close()
            raise
        return response

    async def _send(self, server: Server, path: str, body: dict[str, Any]) -> aiohttp.ClientResponse:
        data = json.dumps(body).encode()
        return await self._session.post(server.url + path, data=data, trace_request_ctx=server)

    async def _get(self, server: Server, path: str) -> Any:
        async with self._session.get(server.url + path, timeout=_QUESTION) as response:
            await _refusal(response)
            return json.loads(await response.read() or b"null")

    async def _unwell(self, server: Server) -> str | None:
        """Why the server cannot serve; None where it can."""
        try:
            await self._get(server, "/health")
        except (*FAILURES, EngineRefused) as error:
            return reason(error)
        server.succeeded()
        return None

    async def _meet(self, server: Server) -> None:
        """Asks the server for its model's name, its context and its version."""
        models = [model for model in (await self._get(server, "/v1/models"))["data"] if not model.get("parent")]
        server.model = models[0]["id"]
        contexts = (self.context_tokens, models[0].get("max_model_len"))
        self.context_tokens = min((tokens for tokens in contexts if tokens), default=None)
        self.version = (await self._get(server, "/version"))["version"]

    async def _look(self, server: Server) -> None:
        """Gives a server that was started again the weights and adapters that it should have."""
        if not server.fresh:
            return
        async with server.looking:
            if server.fresh and (self.weights or self._adapters):
                server.starts += await self._restored(server)
            server.fresh = False

    async def _restored(self, server: Server) -> bool:
        """Whether the server lacked anything; it has it now."""
        lacking = False
        held = await self._held(server) if self.weights else {}
        if self.weights and held["weights"] != self.weights:
            lacking = not held["exchanges"]
            if lacking:
                await self._exchange(server, self.weights)
            else:  # another process gave it these meanwhile
                self.weights = held["weights"]
        there = {model["id"] for model in (await self._get(server, "/v1/models"))["data"]}
        for name in self._adapters.keys() - there:
            await self._load_adapter(server, name, self._adapters[name])
            lacking = True
        return lacking

    async def _on_all(self, work: Callable[[Server], Awaitable[T]]) -> list[T]:
        """What `work` gives for every server, done to the end on each; then raises what the first one raised."""
        done: list[T | BaseException] = await asyncio.gather(
            *(work(server) for server in self._pool.servers), return_exceptions=True
        )
        for server, result in zip(self._pool.servers, done, strict=True):
            if isinstance(result, FAILURES):
                raise EngineUnavailable(f"vLLM at {server.url}: {reason(result)}; try again later") from result
            if isinstance(result, BaseException):
                raise result
        return cast(list[T], done)

    async def _held(self, server: Server) -> dict[str, Any]:
        return await self._in_worker(server, "rlt_weights")

    async def _exchange(self, server: Server, model: str) -> None:
        held = await self._in_worker(server, "rlt_reload", model)
        if "error" in held:
            raise EngineRefused(held["error"])
        await self._forget_prefixes(server)

    async def _in_worker(self, server: Server, method: str, *args: str) -> dict[str, Any]:
        """What a method of server.engine.vllm_lifeline.Reloading says."""
        response = await self._send(server, "/collective_rpc", {"method": method, "args": args})
        async with response:
            if response.status == 404:
                raise EngineRefused(
                    f"vLLM at {server.url} cannot exchange weights: start it with VLLM_SERVER_DEV_MODE=1 and "
                    "--worker-extension-cls server.engine.vllm_lifeline.Reloading"
                )
            await _refusal(response)
            workers: list[dict[str, Any]] = json.loads(await response.read())["results"]
        return next((said for said in workers if "error" in said), workers[0])

    async def _forget_prefixes(self, server: Server) -> None:
        """Empties the prefix cache, as soon as no request holds a part of it any more."""
        deadline = now() + PATIENCE_SECONDS
        while True:
            async with await self._send(server, "/reset_prefix_cache", {}) as response:
                await _refusal(response)
                done = json.loads(await response.read() or b"{}")
            if done.get("success", True):
                return
            if now() > deadline:
                raise NotNow("requests hold the prefix cache")
            await asyncio.sleep(0.05)

    async def _load_adapter(self, server: Server, name: str, folder: str) -> None:
        body = {"lora_name": name, "lora_path": folder, "load_inplace": True}
        async with await self._send(server, "/v1/load_lora_adapter", body) as response:
            if response.status != 200:
                message = _message(await response.text())
                raise EngineRefused(
                    f"adapter {name!r} from {folder!r}: vLLM does not load it ({message}); it must be a PEFT LoRA "
                    "folder of this teacher, and the engine needs adapters > 0"
                )

    async def _unload_adapter(self, server: Server, name: str) -> None:
        async with await self._send(server, "/v1/unload_lora_adapter", {"lora_name": name}) as response:
            if response.status != 404:
                await _refusal(response)


def _session(key: str | None) -> aiohttp.ClientSession:
    """Connections that are kept, and that tell their server when a new one is made."""

    async def connected(session: aiohttp.ClientSession, context: Any, params: Any) -> None:
        if context.trace_request_ctx is not None:
            context.trace_request_ctx.fresh = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_create_end.append(connected)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_SECONDS),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE_SECONDS),
        headers={"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {}),
        trace_configs=[trace],
    )


async def _refusal(response: aiohttp.ClientResponse) -> None:
    """Raises EngineRefused or NotNow where the answer is not 200."""
    if response.status == 200:
        return
    message = f"{response.status}: {_message(await response.text())}"
    if response.status in (401, 403):
        raise EngineRefused(f"vLLM wants another API key ({message}); set {KEY_VARIABLE}")
    if response.status >= 500 or response.status in (408, 429):
        raise NotNow(message)
    raise EngineRefused(f"vLLM refused, {message}")


async def _choices(response: aiohttp.ClientResponse) -> AsyncIterator[dict[str, Any]]:
    """The parts of a streamed completion."""
    async for line in response.content:
        if line.startswith(b"data: {"):
            event = json.loads(line[6:])
            if "error" in event:
                raise NotNow(event["error"]["message"])
            if event["choices"]:
                yield event["choices"][0]


def _finished(choice: dict[str, Any]) -> bool:
    """Whether the sample ended by itself; raises EngineUnavailable where vLLM gave it up."""
    if choice["finish_reason"] not in ("stop", "length"):
        raise EngineUnavailable(f"vLLM gave a sample up ({choice['finish_reason']!r}); ask again")
    return bool(choice["finish_reason"] == "stop")


def _message(text: str) -> str:
    """vLLM's own words in an error's body."""
    try:
        message = json.loads(text)
        for member in ("error", "message"):
            message = message.get(member, message) if isinstance(message, dict) else message
    except ValueError:
        message = text
    return str(message).strip()[:500]
