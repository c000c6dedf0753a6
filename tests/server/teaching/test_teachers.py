"""Weights are exchanged under running requests: none is lost, and each says truly which weights wrote it."""

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from server.configs import EngineSettings
from server.engine.local_engine import open_local
from server.engine.protocol import Generation, TeacherEngine
from server.errors import DatabaseUnavailable, EngineUnavailable, Invalid, NotFound, WrongState
from server.state.database import Database
from server.teaching.ledger import DatabaseLedger, Entry, WeightsLedger
from server.teaching.teachers import Teachers
from student.configs import ModelSettings, SamplingSettings
from student.engine import Request, TransformersEngine
from student.errors import ModelError
from student.models import load_pair, load_tokenizer, weights_digest
from tests.server.scripted_engine import REFUSED, UNAVAILABLE, ScriptedEngine

CPU = ModelSettings(device="cpu", threads=1)
PROMPTS = [[5 + number, 17, 30 + number] for number in range(6)]


@pytest.fixture(scope="module")
def adapter_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What peft would leave, as far as this process looks at it."""
    folder = tmp_path_factory.mktemp("adapter")
    (folder / "adapter_config.json").write_text("{}")
    save_file({"a": torch.ones(2)}, folder / "adapter_model.safetensors")
    return folder


def settings(folder: Path, **changes: Any) -> EngineSettings:
    return EngineSettings.model_validate({"teacher": str(folder), "model_name": "t", "device": "cpu", **changes})


def scripted(folder: Path) -> ScriptedEngine:
    return ScriptedEngine(load_tokenizer(str(folder)), lambda asked: f"{asked.adapter} thinks")


def asked(prompt: list[int], adapter: str | None = None) -> Generation:
    return Generation(prompt, seed=prompt[0], max_tokens=24, temperature=1.0, adapter=adapter)


async def settled() -> None:
    """Everything that can go on has gone on."""
    for _ in range(20):
        await asyncio.sleep(0)


def expected(folder: Path) -> dict[int, list[int]]:
    """What each prompt yields on the weights in `folder`, by the engine that `rlt explain` uses."""
    engine = TransformersEngine(*load_pair(str(folder), CPU))
    sampling = SamplingSettings(temperature=1.0, max_tokens=24)
    samples = engine.sample([Request(prompt, prompt[0]) for prompt in PROMPTS], sampling)
    return {prompt[0]: sample.token_ids for prompt, sample in zip(PROMPTS, samples, strict=True)}


def test_a_swap_under_load_loses_no_request_and_each_is_what_its_digest_says(
    tiny_model_folder: Path, retrained_model_folder: Path
) -> None:
    truth = {weights_digest(str(folder)): expected(folder) for folder in (tiny_model_folder, retrained_model_folder)}
    made: list[tuple[str, int, list[int]]] = []

    async def ask_on(teachers: Teachers, prompt: list[int], stop: asyncio.Event) -> None:
        while not stop.is_set():
            async with teachers.using() as served:
                sample = await teachers.engine.generate(asked(prompt))
            made.append((served.digest, prompt[0], sample.token_ids))

    async def run() -> None:
        engine = await open_local(str(tiny_model_folder), CPU)
        teachers = await Teachers.open(settings(tiny_model_folder), engine)
        stop = asyncio.Event()
        callers = [asyncio.create_task(ask_on(teachers, prompt, stop)) for prompt in PROMPTS]
        for folder in (retrained_model_folder, tiny_model_folder, retrained_model_folder):
            target = len(made) + 8
            while len(made) < target:
                await asyncio.sleep(0.01)
            assert (await teachers.swap(str(folder))).digest == weights_digest(str(folder))
        stop.set()
        await asyncio.gather(*callers)
        await teachers.close()
        await engine.close()

    asyncio.run(run())
    assert all(truth[digest][prompt] == ids for digest, prompt, ids in made)
    assert {digest for digest, _, _ in made} == set(truth)


@pytest.mark.parametrize(
    "spoilt", ["no folder", "another width", "other tokens", "other chat", "torn weights", "torn config"]
)
def test_what_does_not_fit_is_refused_and_the_old_weights_go_on(
    tiny_model_folder: Path, tmp_path: Path, spoilt: str
) -> None:
    folder = tmp_path / "checkpoint"
    if spoilt != "no folder":
        shutil.copytree(tiny_model_folder, folder)
        spoil(folder, spoilt)

    async def run() -> None:
        engine = await open_local(str(tiny_model_folder), CPU)
        teachers = await Teachers.open(settings(tiny_model_folder), engine)
        before = await engine.generate(asked(PROMPTS[0]))
        with pytest.raises(Invalid, match="folder: ") as caught:
            await teachers.swap(str(folder))
        assert caught.value.param == "folder"
        async with teachers.using() as served:
            assert served.digest == weights_digest(str(tiny_model_folder))
            assert await engine.generate(asked(PROMPTS[0])) == before
        await engine.close()

    asyncio.run(run())


def spoil(folder: Path, how: str) -> None:
    name = {"other tokens": "tokenizer.json", "other chat": "tokenizer_config.json"}.get(how, "config.json")
    content = json.loads((folder / name).read_text())
    if how == "another width":
        content["hidden_size"] = 64
    elif how == "other tokens":
        content["added_tokens"].append({**content["added_tokens"][0], "id": 400, "content": "<new>"})
    elif how == "other chat":
        content["chat_template"] = "{{ messages }}"
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    elif how == "torn weights":
        (folder / "model.safetensors").write_bytes(b"torn")
    (folder / name).write_text('{"torn' if how == "torn config" else json.dumps(content))


def test_a_swap_that_the_student_cannot_follow_is_undone(tiny_model_folder: Path, retrained_model_folder: Path) -> None:
    async def run() -> None:
        engine = scripted(tiny_model_folder)
        teachers = await Teachers.open(settings(tiny_model_folder), engine)
        student = [str(tiny_model_folder)]

        async def reload(folder: str) -> None:
            if folder == str(retrained_model_folder):
                raise ModelError("no room for it")
            student.append(folder)

        teachers.before_swap_ends(reload)
        with pytest.raises(Invalid, match="no room for it"):
            await teachers.swap(str(retrained_model_folder))
        assert engine.reloads == [str(retrained_model_folder), str(tiny_model_folder)]
        assert student[-1] == str(tiny_model_folder)
        async with teachers.using() as served:
            assert served.folder == str(tiny_model_folder)

    asyncio.run(run())


def test_where_a_swap_can_be_neither_made_nor_undone_nothing_is_written_until_one_succeeds(
    tiny_model_folder: Path, retrained_model_folder: Path
) -> None:
    async def run() -> None:
        engine = scripted(tiny_model_folder)
        teachers = await Teachers.open(settings(tiny_model_folder), engine)
        engine.bad = {str(retrained_model_folder): UNAVAILABLE, str(tiny_model_folder): UNAVAILABLE}
        with pytest.raises(EngineUnavailable):
            await teachers.swap(str(retrained_model_folder))
        with pytest.raises(EngineUnavailable, match="swap again"):
            async with teachers.using():
                pass
        engine.bad = {}
        await teachers.swap(str(retrained_model_folder))
        async with teachers.using() as served:
            assert served.digest == weights_digest(str(retrained_model_folder))

    asyncio.run(run())


def test_a_swap_goes_on_where_its_caller_has_left(tiny_model_folder: Path, retrained_model_folder: Path) -> None:
    async def run() -> None:
        engine = scripted(tiny_model_folder)
        teachers = await Teachers.open(settings(tiny_model_folder), engine)
        caller = asyncio.create_task(teachers.swap(str(retrained_model_folder)))
        await asyncio.sleep(0)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        while teachers.known(None).folder != str(retrained_model_folder):
            await asyncio.sleep(0.01)

    asyncio.run(run())


def test_an_unknown_model_is_told_with_those_that_are_known(tiny_model_folder: Path, adapter_folder: Path) -> None:
    async def run() -> None:
        teachers = await Teachers.open(settings(tiny_model_folder), scripted(tiny_model_folder))
        await teachers.load_adapter("algebra", str(adapter_folder))
        with pytest.raises(NotFound, match="there is no model 'geometry'; there is 't', 'algebra'") as caught:
            teachers.known("geometry")
        assert (caught.value.param, caught.value.code) == ("model", "model_not_found")
        with pytest.raises(WrongState):
            await teachers.unload_adapter("t")
        with pytest.raises(NotFound):
            await teachers.unload_adapter("geometry")

    asyncio.run(run())


def test_an_adapter_is_replaced_under_those_who_use_it(
    tiny_model_folder: Path, adapter_folder: Path, tmp_path: Path
) -> None:
    newer = shutil.copytree(adapter_folder, tmp_path / "newer")
    save_file({"a": torch.zeros(2)}, newer / "adapter_model.safetensors")

    async def run() -> None:
        engine = scripted(tiny_model_folder)
        teachers = await Teachers.open(settings(tiny_model_folder), engine)
        old = await teachers.load_adapter("algebra", str(adapter_folder))
        async with teachers.using("algebra") as served:
            assert served == old
            new = await teachers.load_adapter("algebra", str(newer))
            await settled()
            assert engine.adapters == {old.adapter, new.adapter}
            assert (await engine.generate(asked(PROMPTS[0], served.adapter))).text.startswith(f"{old.adapter} ")
        await settled()
        assert engine.adapters == {new.adapter}
        assert teachers.known("algebra") == new
        assert new.digest != old.digest
        await teachers.unload_adapter("algebra")
        await settled()
        assert engine.adapters == set()
        assert [model.name for model in teachers.models()] == ["t"]

    asyncio.run(run())


def test_an_adapter_on_other_weights_has_another_digest(
    tiny_model_folder: Path, retrained_model_folder: Path, adapter_folder: Path
) -> None:
    async def run() -> tuple[str, str]:
        teachers = await Teachers.open(settings(tiny_model_folder), scripted(tiny_model_folder))
        before = await teachers.load_adapter("algebra", str(adapter_folder))
        await teachers.swap(str(retrained_model_folder))
        return before.digest, teachers.known("algebra").digest

    before, after = asyncio.run(run())
    assert before != after


def test_an_adapter_that_is_none_or_is_refused_is_told(tiny_model_folder: Path, adapter_folder: Path) -> None:
    async def run() -> None:
        engine = scripted(tiny_model_folder)
        engine.bad = {str(adapter_folder): REFUSED}
        teachers = await Teachers.open(settings(tiny_model_folder), engine)
        for name, folder, message in [
            ("algebra", tiny_model_folder, "holds no LoRA adapter"),
            ("algebra", adapter_folder, "these do not fit"),
            ("t", adapter_folder, "the teacher's own name"),
            ("../x y", adapter_folder, "use letters"),
        ]:
            with pytest.raises(Invalid, match=message):
                await teachers.load_adapter(name, str(folder))
        assert [model.name for model in teachers.models()] == ["t"]

    asyncio.run(run())


@asynccontextmanager
async def ledger_at(url: str, data: Path) -> AsyncIterator[DatabaseLedger]:
    database = await Database.open(url, data)
    try:
        yield DatabaseLedger(database)
    finally:
        await database.close()


async def opened(folder: Path, engine: TeacherEngine, ledger: WeightsLedger, **options: Any) -> Teachers:
    return await Teachers.open(settings(folder, **options.pop("settings", {})), engine, ledger, **options)


def test_other_processes_take_over_what_one_has_exchanged(
    tiny_model_folder: Path, retrained_model_folder: Path, adapter_folder: Path, database_url: str, tmp_path: Path
) -> None:
    async def run() -> None:
        async with ledger_at(database_url, tmp_path) as ledger, ledger_at(database_url, tmp_path) as their_ledger:
            service = await opened(tiny_model_folder, scripted(tiny_model_folder), ledger)
            own, shared = scripted(tiny_model_folder), scripted(tiny_model_folder)
            worker = await opened(tiny_model_folder, own, their_ledger, follow=True)
            urls = {"settings": {"engine_urls": ["http://one"]}}
            neighbour = await opened(tiny_model_folder, shared, their_ledger, follow=True, **urls)
            before = await worker.stamp()
            assert before == await neighbour.stamp() == await service.stamp()
            await service.swap(str(retrained_model_folder))
            await service.load_adapter("algebra", str(adapter_folder))
            for follower in (worker, neighbour):
                assert await follower.stamp() == await service.stamp() != before
                assert follower.models() == service.models()
            assert own.reloads == [str(retrained_model_folder)], "its own engine has to follow"
            assert own.adapters == {service.known("algebra").adapter}
            assert shared.reloads == [], "the service reloaded the one that they share"
            await service.unload_adapter("algebra")
            await worker.stamp()
            assert worker.models() == service.models()
            await asyncio.gather(*(teachers.close() for teachers in (service, worker, neighbour)))

    asyncio.run(run())


def test_while_one_process_exchanges_weights_others_neither_stamp_nor_exchange(
    tiny_model_folder: Path, retrained_model_folder: Path, database_url: str, tmp_path: Path
) -> None:
    async def run() -> None:
        async with ledger_at(database_url, tmp_path) as ledger:
            service = await opened(tiny_model_folder, scripted(tiny_model_folder), ledger)
            worker = await opened(tiny_model_folder, scripted(tiny_model_folder), ledger, follow=True)
            await ledger.begin("t")  # a third process, which is killed now
            with pytest.raises(EngineUnavailable, match="being exchanged"):
                await worker.stamp()
            with pytest.raises(WrongState, match="being exchanged by another call"):
                await service.swap(str(retrained_model_folder))
            late = await opened(tiny_model_folder, scripted(tiny_model_folder), ledger, follow=True)
            with pytest.raises(EngineUnavailable, match="being exchanged"):
                await late.stamp()
            await asyncio.gather(service.close(), worker.close(), late.close())
            engine = scripted(tiny_model_folder)
            urls = {"settings": {"engine_urls": ["http://one"]}}
            again = await opened(tiny_model_folder, engine, ledger, **urls)
            assert engine.reloads == [str(tiny_model_folder)], "nobody knows what the shared engine was left with"
            assert (await again.swap(str(retrained_model_folder))).folder == str(retrained_model_folder)
            await again.close()

    asyncio.run(run())


def test_a_swap_that_the_database_was_not_told_of_is_stamped_truly_and_told_later(
    tiny_model_folder: Path, retrained_model_folder: Path, tmp_path: Path
) -> None:
    class Deaf(DatabaseLedger):
        """A ledger whose database goes away in the middle of an exchange."""

        deaf = False

        async def settle(self, entry: Entry) -> Entry:
            if self.deaf:
                raise DatabaseUnavailable("the database does not answer")
            return await super().settle(entry)

    async def run() -> None:
        database = await Database.open(None, tmp_path)
        ledger = Deaf(database)
        service = await opened(tiny_model_folder, scripted(tiny_model_folder), ledger)
        ledger.deaf = True
        with pytest.raises(DatabaseUnavailable):
            await service.swap(str(retrained_model_folder))
        async with service.using() as served:
            assert served.digest == weights_digest(str(retrained_model_folder)), "the engine has them"
        ledger.deaf = False
        await service.stamp()
        entry = (await ledger.entries())["t"]
        assert (entry.folder, entry.changing) == (str(retrained_model_folder), False)
        await service.swap(str(tiny_model_folder))
        await service.close()
        await database.close()

    asyncio.run(run())


def test_a_service_that_starts_again_serves_the_teacher_it_is_given_and_its_adapters(
    tiny_model_folder: Path, retrained_model_folder: Path, adapter_folder: Path, tmp_path: Path
) -> None:
    async def run() -> None:
        url = f"sqlite:///{tmp_path / 'rlt.sqlite'}"
        async with ledger_at(url, tmp_path) as ledger:
            service = await opened(tiny_model_folder, scripted(tiny_model_folder), ledger)
            quiet = await service.stamp()
            await service.close()
            service = await opened(tiny_model_folder, scripted(tiny_model_folder), ledger)
            assert await service.stamp() == quiet, "a restart alone has no unit done again"
            await service.swap(str(retrained_model_folder))
            await service.load_adapter("algebra", str(adapter_folder))
            await ledger.settle(Entry("gone", True, str(tmp_path / "gone"), "1"))
            await service.close()
            engine = scripted(tiny_model_folder)
            engine.bad = {str(tmp_path / "gone"): REFUSED}
            service = await opened(tiny_model_folder, engine, ledger)
            assert [(model.name, model.folder) for model in service.models()] == [
                ("t", str(tiny_model_folder)),
                ("algebra", str(adapter_folder)),
            ]
            assert "gone" not in await ledger.entries()
            await service.close()

    asyncio.run(run())


def test_a_worker_that_starts_after_a_swap_has_its_student_follow(
    tiny_model_folder: Path, retrained_model_folder: Path, tmp_path: Path
) -> None:
    async def run() -> None:
        async with ledger_at(f"sqlite:///{tmp_path / 'rlt.sqlite'}", tmp_path) as ledger:
            service = await opened(tiny_model_folder, scripted(tiny_model_folder), ledger)
            await service.swap(str(retrained_model_folder))
            worker = await opened(tiny_model_folder, scripted(tiny_model_folder), ledger, follow=True)
            student: list[str] = []

            async def reload(folder: str) -> None:
                await asyncio.sleep(0.01)
                student.append(folder)

            worker.before_swap_ends(reload)
            await asyncio.sleep(0)
            async with worker.using():
                assert student == [str(retrained_model_folder)]
            await asyncio.gather(service.close(), worker.close())

    asyncio.run(run())
