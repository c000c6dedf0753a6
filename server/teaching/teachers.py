"""The teacher that is served, and its adapters: their names, their prompts, and how their weights are exchanged.

Whoever generates does so inside `using`, and is told there which weights are at work. A swap waits until nobody is
inside and holds newcomers back meanwhile: no request is lost, and none is written by two teachers.

    using    in ───── out                ┌ in ──── out
    swap          waits │ reloads ───────┘

An adapter is loaded beside the one that it replaces, under a name of the engine's own, and the old one is forgotten
once its last generation has ended; nobody waits. A swap lasts until the service is started again, with the teacher that
it is given then; an adapter stays until it is unloaded.

Several processes may share one ledger (the table `weights`). The others take over what one has exchanged: in `stamp`,
which a unit of work asks before and after, and within a second elsewhere. A process with an engine of its own reloads
that too; engines behind `engine_urls` are shared, and only the digest is taken over.
"""

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog
from transformers import GenerationConfig, PreTrainedTokenizerBase

from server.configs import EngineSettings
from server.engine.protocol import TeacherEngine
from server.engine.weights import misfit
from server.errors import EngineRefused, EngineUnavailable, Invalid, NotFound, WrongState
from server.teaching.ledger import Entry, MemoryLedger, WeightsLedger
from server.teaching.turnstile import Turnstile
from student.engine import end_ids
from student.errors import ModelError, RltError
from student.models import load_tokenizer, weights_digest
from student.tags import STYLES, TagStyle
from teacher.prompts import TeacherFormat

FOLLOW_SECONDS = 1.0
"""How soon a process sees, outside of `stamp`, that another one has exchanged weights."""

log = structlog.get_logger("rlt.teachers")


@dataclass(frozen=True)
class ServedModel:
    """Weights under the name that callers use."""

    name: str
    adapter: str | None
    """What the engine calls the LoRA adapter (Generation.adapter); None: the teacher itself."""
    folder: str
    """Folder or hub name that the weights came from."""
    digest: str
    """Of the weights that write; an adapter's covers the teacher under it."""


@dataclass(frozen=True)
class Reading:
    """What a model's folder says besides its weights: how its prompts are made."""

    tokenizer: PreTrainedTokenizerBase
    forms: dict[TagStyle, TeacherFormat]
    digest: str

    @classmethod
    def of(cls, folder: str) -> "Reading":
        """Reads a folder or hub name, all of the weights' bytes included; raises ModelError."""
        tokenizer = load_tokenizer(folder)
        ends = end_ids(tokenizer, _generation_config(folder))
        forms = {style: TeacherFormat(tokenizer, tags, ends) for style, tags in STYLES.items()}
        return cls(tokenizer, forms, weights_digest(folder))

    def misfit(self, present: "Reading") -> str | None:
        """Why its prompts are not those of `present`; None where they are."""
        if self.tokenizer.get_vocab() != present.tokenizer.get_vocab():
            return "its tokenizer is not the served teacher's; start the service on it instead"
        if self.tokenizer.chat_template != present.tokenizer.chat_template:
            return "its chat template is not the served teacher's; start the service on it instead"
        return None


Reload = Callable[[str], Awaitable[None]]
"""Given the folder of the new teacher while nobody generates; raising undoes the swap."""


@dataclass(frozen=True)
class _Adapter:
    entry: Entry
    turnstile: Turnstile


class Teachers:
    """The teacher, its adapters and the engine that runs them; made by `Teachers.open`."""

    def __init__(
        self, settings: EngineSettings, engine: TeacherEngine, reading: Reading, ledger: WeightsLedger | None
    ) -> None:
        assert settings.teacher is not None, "the default teacher is resolved before"
        self.engine = engine
        self.settings = settings
        self.default = settings.model_name or Path(settings.teacher).name
        """The name of the teacher itself, used where a request names none."""
        self._reading = reading
        self._base = Entry(self.default, False, settings.teacher, reading.digest)
        self._adapters: dict[str, _Adapter] = {}
        self._refused: dict[str, Entry] = {}
        self._turnstile, self._admin = Turnstile(), asyncio.Lock()
        self._broken: str | None = None
        self._owed = False
        self._ledger = ledger or MemoryLedger()
        self._reloads: list[Reload] = []
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls, settings: EngineSettings, engine: TeacherEngine, ledger: WeightsLedger | None = None, follow: bool = False
    ) -> "Teachers":
        """The teachers of a running engine; raises ModelError where the teacher's folder cannot be read.

        With `follow` (a worker) the ledger says what is served; without (the service) the settings do, and the ledger
        is told.
        """
        assert settings.teacher is not None, "the default teacher is resolved before"
        teachers = cls(settings, engine, await asyncio.to_thread(Reading.of, settings.teacher), ledger)
        if follow:
            with suppress(EngineUnavailable):  # an exchange is going on; `stamp` takes over what comes of it
                await teachers.stamp()
        else:
            await teachers._announce()
        if ledger is not None:
            teachers._begin(teachers._keep_following())
        return teachers

    async def close(self) -> None:
        """Ends what was begun here; the engine stays the caller's."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The teacher's; a swap does not change it."""
        return self._reading.tokenizer

    @property
    def tags(self) -> TagStyle:
        """The tag style where a request names none."""
        return self.settings.tags

    def form(self, tags: TagStyle | None = None) -> TeacherFormat:
        """How prompts are made, and explanations read, in a tag style."""
        return self._reading.forms[tags or self.tags]

    def models(self) -> list[ServedModel]:
        """The teacher, then its adapters by name."""
        return [self.known(None), *(self.known(name) for name in sorted(self._adapters))]

    def known(self, name: str | None, param: str = "model") -> ServedModel:
        """What is served under `name`, the teacher where it is None; raises NotFound, which names what there is."""
        if name is None or name == self.default:
            return ServedModel(self.default, None, self._base.folder, self._base.digest)
        if name in self._adapters:
            adapter = self._adapters[name]
            both = hashlib.sha256(f"{self._base.digest}+{adapter.entry.digest}".encode()).hexdigest()[:16]
            return ServedModel(name, _engine_name(adapter.entry), adapter.entry.folder, both)
        there = ", ".join(map(repr, [self.default, *sorted(self._adapters)]))
        raise NotFound(f"{param}: there is no model {name!r}; there is {there}", param=param, code="model_not_found")

    @asynccontextmanager
    async def using(self, name: str | None = None) -> AsyncIterator[ServedModel]:
        """Inside, the weights behind `name` stay what they are, and it is said which these are.

        Waits while they are being exchanged. Raises NotFound, or EngineUnavailable where an exchange failed halfway.
        """
        async with self._turnstile.shared():
            if self._broken is not None:
                raise EngineUnavailable(self._broken)
            served = self.known(name)
            if served.adapter is None:
                yield served
                return
            async with self._adapters[served.name].turnstile.shared():
                yield served

    def before_swap_ends(self, reload: Reload) -> None:
        """Has `reload` called in every swap, while nobody generates: the student compares with the same weights.

        And now, where what is served is not what the settings say.
        """
        self._reloads.append(reload)
        if self._base.folder != self.settings.teacher:
            self._begin(self._catch_up(reload))

    async def swap(self, folder: str) -> ServedModel:
        """Serves the weights in `folder` in place of the teacher's, once running generations have ended.

        Raises Invalid where architecture or tokenizer differ or the engine does not take them, and WrongState where
        somebody else is exchanging them. The old ones are served after any failure. Goes on where its caller is gone.
        """
        await asyncio.shield(self._begin(self._swap(folder)))
        return self.known(None)

    async def load_adapter(self, name: str, folder: str) -> ServedModel:
        """Serves the LoRA adapter in `folder` as `name`, in place of one of that name; raises Invalid.

        Generations that run with the old one end with it.
        """
        await asyncio.shield(self._begin(self._load_adapter(name, folder)))
        return self.known(name)

    async def unload_adapter(self, name: str) -> None:
        """Serves the adapter no longer; what runs with it ends as it began. Raises NotFound and WrongState."""
        async with self._admin:
            if self.known(name, "name").adapter is None:
                raise WrongState(f"name: {name!r} is the teacher itself; swap it instead", param="name")
            await self._ledger.forget(name)
            self._retire(self._adapters.pop(name))

    async def stamp(self) -> tuple[tuple[str, int, str], ...]:
        """What is served, to be compared: the same before and after a piece of work means that one set of weights did
        it all; else it has to be done again.

        Takes over what other processes have exchanged; raises EngineUnavailable while one of them is at it.
        """
        async with self._admin:
            await self._follow()
            entries = [self._base, *(self._adapters[name].entry for name in sorted(self._adapters))]
            return tuple((entry.name, entry.epoch, entry.digest) for entry in entries)

    # Below, `_admin` is held, so one call at a time moves engine, ledger and this object on together.

    async def _swap(self, folder: str) -> None:
        async with self._admin:
            reading = await self._read(folder)
            await self._settle_what_is_owed()
            async with self._turnstile.alone():
                if self._broken is None:
                    await self._ledger.begin(self.default)
                try:
                    await self._replace(folder, self.engine.reload)
                except RltError as error:
                    if self._broken is None:
                        await self._settle(self._base)
                    if isinstance(error, EngineRefused | ModelError):
                        raise Invalid(f"folder: {folder!r} cannot be swapped in: {error}", param="folder") from error
                    raise
                self._reading = reading
                await self._settle(Entry(self.default, False, folder, reading.digest))

    async def _settle(self, base: Entry) -> None:
        """Tells all what is served. A database that does not answer is told later; in here it is true at once."""
        self._base, self._owed = replace(base, epoch=self._base.epoch), True
        self._base = await self._ledger.settle(base)
        self._owed = False

    async def _settle_what_is_owed(self) -> None:
        if self._owed:
            await self._settle(self._base)

    async def _read(self, folder: str) -> Reading:
        def fitting() -> Reading:
            if told := misfit(self._base.folder, folder):
                raise ModelError(told)
            reading = Reading.of(folder)
            if told := reading.misfit(self._reading):
                raise ModelError(f"model {folder!r}: {told}")
            return reading

        try:
            return await asyncio.to_thread(fitting)
        except ModelError as error:
            raise Invalid(f"folder: {error}", param="folder") from error
        except ValueError as error:
            raise Invalid(f"folder: {folder!r} cannot be read ({error}); copy it again", param="folder") from error

    async def _replace(self, folder: str, *engine: Reload) -> None:
        """The weights in `folder` everywhere, or the old ones after a failure; `_broken` where even that fails."""
        self._broken = f"a swap to {folder!r} failed halfway and so did its undoing; swap again"
        try:
            await _each((*engine, *self._reloads), folder)
        except RltError as error:
            log.warning("the weights were not exchanged", folder=folder, reason=str(error))
            await _each((*engine, *self._reloads), self._base.folder)
            self._broken = None
            raise
        self._broken = None

    async def _catch_up(self, reload: Reload) -> None:
        async with self._admin, self._turnstile.alone():
            try:
                await reload(self._base.folder)
            except RltError as error:
                self._broken = f"the student cannot compare with {self._base.folder!r}, which is served: {error}"
                log.error("the student is not in step with the teacher", reason=str(error))

    async def _load_adapter(self, name: str, folder: str) -> None:
        async with self._admin:
            self._check_adapter_name(name)
            entry = Entry(name, True, folder, await asyncio.to_thread(_adapter_digest, folder))
            try:
                await self.engine.load_adapter(_engine_name(entry), folder)
            except EngineRefused as error:
                raise Invalid(f"folder: the engine does not take {folder!r}: {error}", param="folder") from error
            self._put(await self._ledger.settle(entry))

    def _check_adapter_name(self, name: str) -> None:
        if name == self.default:
            raise Invalid(f"name: {name!r} is the teacher's own name; choose another", param="name")
        if not re.fullmatch(r"[\w./-]{1,200}", name, re.ASCII):
            raise Invalid(f"name: use letters, digits and ._/- (200 at most), got {name[:200]!r}", param="name")

    def _put(self, entry: Entry) -> None:
        """Newcomers use the adapter, which is loaded; the one that it replaces is forgotten once it is idle."""
        old = self._adapters.get(entry.name)
        same = old is not None and _engine_name(old.entry) == _engine_name(entry)
        self._adapters[entry.name] = _Adapter(entry, old.turnstile if old is not None and same else Turnstile())
        if old is not None and not same:
            self._retire(old)

    def _retire(self, adapter: _Adapter) -> None:
        async def when_idle() -> None:
            async with adapter.turnstile.alone():
                try:
                    await self.engine.unload_adapter(_engine_name(adapter.entry))
                except RltError as error:
                    log.warning("adapter not unloaded", adapter=adapter.entry.name, reason=str(error))

        self._begin(when_idle())

    @property
    def _engine_is_shared(self) -> bool:
        return bool(self.settings.engine_urls)

    async def _announce(self) -> None:
        """What the settings say becomes true for all; a shared engine may run what another process chose."""
        told = await self._ledger.entries()
        before = told.pop(self.default, None)
        if before is not None and not before.changing and before.same_weights(self._base):
            self._base = before
        else:
            if before is not None and self._engine_is_shared:
                await self.engine.reload(self._base.folder)
            await self._settle(self._base)
        for entry in told.values():
            if entry.adapter:
                await self._load_again(entry)

    async def _load_again(self, entry: Entry) -> None:
        try:
            await self.engine.load_adapter(_engine_name(entry), entry.folder)
        except EngineRefused as error:
            log.warning("adapter not loaded again", adapter=entry.name, folder=entry.folder, reason=str(error))
            await self._ledger.forget(entry.name)
        else:
            self._put(entry)

    async def _follow(self) -> None:
        """Takes over what the ledger says; raises EngineUnavailable while it is being changed."""
        await self._settle_what_is_owed()
        told = await self._ledger.entries()
        base = told.pop(self.default, self._base)
        if base.changing:
            raise EngineUnavailable(f"the weights of {self.default!r} are being exchanged; try again in a moment")
        if base != self._base:
            await self._take_over(base)
        for name, entry in told.items():
            if entry.adapter and (name not in self._adapters or self._adapters[name].entry != entry):
                await self._take_over_adapter(entry)
        for name in self._adapters.keys() - told.keys():
            self._retire(self._adapters.pop(name))

    async def _take_over(self, base: Entry) -> None:
        if not base.same_weights(self._base):
            try:
                reading = await self._read(base.folder)
                async with self._turnstile.alone():
                    await self._replace(base.folder, *([] if self._engine_is_shared else [self.engine.reload]))
            except RltError as error:
                raise EngineUnavailable(f"{base.folder!r} is served elsewhere and cannot be here: {error}") from error
            self._reading = reading
        self._base = base

    async def _take_over_adapter(self, entry: Entry) -> None:
        if not self._engine_is_shared and self._refused.get(entry.name) != entry:
            try:
                await self.engine.load_adapter(_engine_name(entry), entry.folder)
            except EngineRefused as error:
                log.warning(
                    "an adapter of another process cannot be served here", adapter=entry.name, reason=str(error)
                )
                self._refused[entry.name] = entry
        if self._refused.get(entry.name) != entry:
            self._put(entry)

    async def _keep_following(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            try:
                await self.stamp()
                told = ""
            except RltError as error:
                if str(error) != told:
                    log.warning("not in step with the ledger of weights", reason=str(error))
                told = str(error)

    def _begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _engine_name(adapter: Entry) -> str:
    """Of these very weights: two versions of a name can be loaded at a time."""
    return f"{adapter.name}@{adapter.digest}"


async def _each(reloads: Sequence[Reload], folder: str) -> None:
    for reload in reloads:
        await reload(folder)


def _generation_config(name: str) -> GenerationConfig | None:
    try:
        return GenerationConfig.from_pretrained(name)
    except OSError:  # a model need not have one
        return None


def _adapter_digest(folder: str) -> str:
    """Raises Invalid where the folder holds no LoRA adapter."""
    path = Path(folder)
    if not (path / "adapter_config.json").is_file() or not list(path.glob("*.safetensors")):
        raise Invalid(
            f"folder: {folder!r} holds no LoRA adapter (adapter_config.json and adapter_model.safetensors); give one "
            "saved by peft",
            param="folder",
        )
    return weights_digest(folder)
