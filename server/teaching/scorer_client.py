"""A student behind an address: another service that has one, asked for a score a row (POST /v1/scores).

Token ids go along, so nothing is tokenised twice. A service that is busy (429) is waited for; one that does not answer
for some seconds is EngineUnavailable, and what it says of a single row stands in that row.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp

from server.errors import EngineUnavailable, Invalid, NotFound, ServerError
from server.together import together
from server.wire import ScoreRequest, ScoreResponse
from student.configs import MeasureSettings
from student.explanations import Explanation

GIVEN = {"question", "solution", "explanation", "token_ids", "closed", "tags"}
"""What is told of a row."""
CONCURRENCY = 32
"""Rows that are asked for at a time."""
DOWN_SECONDS = 10.0
"""How long a service that does not answer is asked again."""
BUSY_SECONDS = 300.0
"""How long one that is busy is."""
ANSWER_SECONDS = 300.0
"""How long one score may take."""


class RemoteStudent:
    """A student of another service; made by `RemoteStudent.open`."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url.rstrip("/")
        self._session = session
        self._places = asyncio.Semaphore(CONCURRENCY)
        self._last: ScoreResponse

    @classmethod
    async def open(cls, url: str, key: str | None) -> "RemoteStudent":
        """The student at `url`, tried with a small score; raises ServerError where there is none."""
        headers = {"authorization": f"Bearer {key}"} if key else {}
        session = aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS))
        student = cls(url, session)
        try:
            await student._try()
        except BaseException:
            await session.close()
            raise
        return student

    @property
    def name(self) -> str:
        """See Student."""
        return self._last.student

    @property
    def digest(self) -> str:
        """See Student."""
        return self._last.student_digest

    @property
    def teacher_name(self) -> str | None:
        """See Student."""
        return self._last.teacher

    @property
    def teacher_digest(self) -> str | None:
        """See Student."""
        return self._last.teacher_digest

    async def score(self, rows: Sequence[Explanation], measures: MeasureSettings | None = None) -> list[Explanation]:
        """See Student."""
        return await together([self._scored(row, measures) for row in rows])

    async def measure(self, request: ScoreRequest) -> ScoreResponse:
        """See Student."""
        async with self._places:
            answer = await self._post("/v1/scores", request.model_dump(mode="json", exclude_unset=True))
        self._last = ScoreResponse.model_validate(answer)
        return self._last

    async def health(self) -> None:
        """See Student; asked without a key."""
        try:
            async with self._session.get(f"{self._url}/health/ready") as response:
                if response.status != 200:
                    raise EngineUnavailable((await _told(response))["message"])
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise EngineUnavailable(f"no answer ({str(error) or type(error).__name__})") from error

    async def reload_teacher(self, folder: str) -> None:
        """See Student; the key needs the scope admin, and the folder must be seen there under the same name."""
        if self.teacher_name is not None:
            await self._post("/v1/admin/teacher", {"folder": folder})
            await self._try()

    async def close(self) -> None:
        """See Student."""
        await self._session.close()

    async def _try(self) -> None:
        """One small score, whose answer says who made it."""
        await self.measure(ScoreRequest(question="1 + 1?", solution="2", explanation="1 and 1 make 2."))

    async def _scored(self, row: Explanation, measures: MeasureSettings | None) -> Explanation:
        if row.error is not None:
            return row.model_copy(update={"score": None, "unscored": "there is no explanation, see error"})
        given = row.model_dump(include=GIVEN)
        if measures is not None:
            given |= {"answer": row.answer, "measures": measures}
        try:
            response = await self.measure(ScoreRequest.model_validate(given))
        except (Invalid, NotFound) as error:
            return row.model_copy(update={"score": None, "unscored": str(error)})
        found: dict[str, Any] = {"score": response.score, "unscored": None}
        if measures is not None:
            found |= {"measures": response.measures, "student": response.student}
            found |= {"student_digest": response.student_digest}
        return row.model_copy(update=found)

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        loop = asyncio.get_running_loop()
        began, pause = loop.time(), 0.1
        while True:
            patience = DOWN_SECONDS
            try:
                async with self._session.post(self._url + path, json=body) as response:
                    if response.status == 200:
                        return await response.json()
                    told = await _told(response)
                    if response.status not in (429, 502, 503, 504) or told["code"] in ("no_student", "no_teacher"):
                        raise _refusal(self._url, response.status, told)
                    patience = BUSY_SECONDS if response.status == 429 else DOWN_SECONDS
                    reason = told["message"]
                    pause = max(pause, float(response.headers.get("retry-after") or 0))
            except (aiohttp.ClientError, OSError) as error:
                reason = str(error) or type(error).__name__
            if loop.time() - began + pause > patience:
                raise EngineUnavailable(f"the student at {self._url} does not answer ({reason}); try again later")
            await asyncio.sleep(pause)
            pause = min(2 * pause, 5.0)


async def _told(response: aiohttp.ClientResponse) -> dict[str, Any]:
    """The `error` of an answer of ours; of anybody else's the status alone."""
    try:
        error = (await response.json(content_type=None))["error"]
        return {"message": str(error["message"]), "param": error["param"], "code": error["code"]}
    except (ValueError, KeyError, TypeError):
        return {"message": f"status {response.status}", "param": None, "code": None}


def _refusal(url: str, status: int, told: dict[str, Any]) -> Exception:
    if status in (401, 403):
        return ServerError(
            f"the student at {url} refuses the key ({told['message']}); set RLT_SCORER_KEY to one of its"
        )
    if status == 404:
        return NotFound(told["message"], param=told["param"], code=told["code"])
    if status in (400, 413, 422):
        return Invalid(told["message"], param=told["param"], code=told["code"])
    return ServerError(f"the student at {url} answered {status}: {told['message']}")
