"""The parts that a service and its workers are made of, opened in order and closed in the reverse one.

    database, storage -> keys, files, jobs -> engine, teacher -> student -> runtime

What is cheap and fails often comes first: a wrong password is told before gigabytes are loaded.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from server.batches.batches import BatchKind
from server.configs import DEMO_MODELS, ServeConfig, ServiceConfig
from server.datasets.datasets import DatasetKind
from server.engine.opening import open_engine
from server.errors import ServerError
from server.jobs.jobs import JobKind, Jobs
from server.jobs.runtime import Runtime
from server.state.database import URL_VARIABLE as DATABASE_URL
from server.state.database import Database
from server.state.files import Files
from server.state.keys import Keys
from server.state.storage import URL_VARIABLE as STORAGE_URL
from server.state.storage import Storage
from server.teaching.ledger import DatabaseLedger
from server.teaching.teachers import Teachers
from server.teaching.understanding import Student

DEMO_TEACHER = DEMO_MODELS / "rlt_teacher"
DEMO_STUDENT = DEMO_MODELS / "base"
SCORER_KEY = "RLT_SCORER_KEY"
"""Environment variable with the key that is sent to `scorer_url`."""

Admission = Callable[[Keys], Awaitable[None]]
S = TypeVar("S", bound=ServiceConfig)


@dataclass(frozen=True)
class Parts:
    """Everything that routes and jobs are made of, open."""

    config: ServiceConfig
    """As given, with teacher and student resolved."""
    database: Database
    storage: Storage
    keys: Keys
    files: Files
    jobs: Jobs
    teachers: Teachers | None
    """None where the service only scores."""
    student: Student | None
    """None where nothing is scored."""
    runtime: Runtime


@asynccontextmanager
async def open_parts(config: ServiceConfig, admit: Admission | None = None) -> AsyncIterator[Parts]:
    """The parts that `config` asks for, working; on leaving, work is handed back and all is closed.

    `admit` is called once the keys are known and before anything big is loaded; it may raise. Raises ServerError or
    ModelError where a part cannot be had.
    """
    config = resolved(config)
    data = Path(config.data)
    async with AsyncExitStack() as stack:
        database = await Database.open(os.environ.get(DATABASE_URL), data)
        stack.push_async_callback(database.close)
        keys = await Keys.open(database, data)
        if admit is not None:
            await admit(keys)
        storage = await Storage.open(os.environ.get(STORAGE_URL), data)
        stack.push_async_callback(storage.close)
        teachers = await _open_teachers(config, database, data, stack)
        student = await _open_student(config, teachers, stack)
        files, jobs = Files(database, storage), Jobs(database)
        await stack.enter_async_context(files.swept())
        kinds: dict[str, JobKind] = {
            "dataset": DatasetKind(storage, files, jobs, teachers, student),
            "batch": BatchKind(storage, files, jobs, teachers, student),
        }
        runtime = Runtime(database, kinds, config, storage=storage, engine_wait_seconds=config.engine_wait_seconds)
        parts = Parts(config, database, storage, keys, files, jobs, teachers, student, runtime)
        await runtime.start()
        stack.push_async_callback(runtime.stop)
        yield parts


def resolved(config: S) -> S:
    """`config` with the demo's teacher and student where it names none; raises ServerError where there is none to take.

    A teacher of one's own is not paired with the demo's student: its scores would mean nothing.
    """
    own_teacher, own_student = config.teacher is not None, config.student is not None or config.scorer_url is not None
    if own_teacher or (own_student and config.engine == "none"):
        return config
    if not (DEMO_TEACHER / "config.json").is_file():
        raise ServerError(
            f"teacher: none is named, and {DEMO_TEACHER} is not there; give --teacher FOLDER_OR_HUB_NAME, "
            "or make the demo's with `rlt demo`"
        )
    student = config.student if own_student else str(DEMO_STUDENT)
    return config.model_copy(update={"teacher": str(DEMO_TEACHER), "student": student})


async def _open_teachers(
    config: ServiceConfig, database: Database, data: Path, stack: AsyncExitStack
) -> Teachers | None:
    if config.engine == "none":
        return None
    engine = await stack.enter_async_context(open_engine(config, data))
    follow = not isinstance(config, ServeConfig)
    teachers = await Teachers.open(config, engine, DatabaseLedger(database), follow=follow)
    stack.push_async_callback(teachers.close)
    return teachers


async def _open_student(config: ServiceConfig, teachers: Teachers | None, stack: AsyncExitStack) -> Student | None:
    from server.teaching.understanding import LocalStudent, RemoteStudent

    if config.scorer_url is not None:
        student: Student = await RemoteStudent.open(config.scorer_url, os.environ.get(SCORER_KEY))
    elif config.student is not None:
        student = await LocalStudent.open(config)
    else:
        return None
    stack.push_async_callback(student.close)
    if teachers is not None:
        teachers.before_swap_ends(student.reload_teacher)
    return student
