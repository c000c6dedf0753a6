"""The settings of the service's verbs, and the verbs themselves. Loads no torch: `rlt --help` reads this file.

Secrets and addresses come from the environment, never from here or a file: RLT_DATABASE_URL, RLT_STORAGE_URL,
RLT_KEY_SECRET, RLT_SERVICE_KEY, RLT_ENGINE_KEY, RLT_SCORER_KEY (see docs/service.md).
"""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import CliPositionalArg

from student.cli import Verb
from student.config import Config
from student.configs import ModelSettings, PilotSettings, RewardConfig, ScoringSettings
from student.tags import TagStyle

DEMO_MODELS = Path("demo/seed-0/models")
"""Where `rlt demo` leaves the teacher and the student that are served when none is named."""

Scope = Literal["explain", "datasets", "admin"]


class EngineSettings(ModelSettings):
    """What generates: the teacher, and the engine that runs it."""

    teacher: str | None = None
    """The teacher, a model folder or hub name; unset is the demo's, if `rlt demo` was run here."""
    model_name: str | None = None
    """What callers call the teacher; unset is the last part of its name."""
    tags: TagStyle = "rlt"
    """Tag style of the teacher's prompts, where a request names none."""
    engine: Literal["auto", "vllm", "transformers", "none"] = "auto"
    """vllm (started and ended by the service), transformers, none (scores only), or auto = vllm where it installs."""
    engine_urls: list[str] = Field(default_factory=list)
    """Addresses of running vLLM servers of this teacher; the request goes to the one with the least in flight."""
    engine_concurrency: int = Field(256, gt=0)
    """Requests that one vLLM server is given at a time; the rest wait here."""
    engine_wait_seconds: float = Field(600, gt=0)
    """How long a dataset's work waits for an engine that does not answer before it counts as failed."""
    engine_start_seconds: float = Field(600, gt=0)
    """How long a vLLM that the service starts may take to be ready."""
    adapters: int = Field(0, ge=0)
    """LoRA adapters that the started vLLM keeps loaded at a time; 0 switches adapters off."""
    context_tokens: int | None = Field(None, gt=0)
    """Longest sequence of the started vLLM, prompt included; unset is the model's own limit."""
    gpu_memory_fraction: float = Field(0.85, gt=0, lt=1)
    """Share of the GPU's memory that the started vLLM takes."""
    engine_log: str | None = None
    """File for the started vLLM's log; unset is vllm.log in the data folder."""


class StudentSettings(Config):
    """What scores: the student, here or behind an address."""

    student: str | None = None
    """The frozen student that scores and ranks; unset is the demo's where the teacher is the demo's, else no scores."""
    scorer_url: str | None = None
    """Address of another `rlt serve` that has a student and scores for this one."""
    score_teacher: bool = True
    """Load the teacher beside the student for rKL (its memory comes twice); without it the reward is rSS alone."""
    reward: RewardConfig = RewardConfig()
    """The reward."""
    scoring: ScoringSettings = ScoringSettings()
    """Cost of scoring."""


class JobSettings(Config):
    """How datasets and batches are worked on."""

    data: str = "rlt-data"
    """Folder for the embedded database, files and shards, unless RLT_DATABASE_URL and RLT_STORAGE_URL say otherwise."""
    name: str | None = None
    """This process among the workers, the same after a restart; unset is made of the host's name."""
    units: int = Field(8, ge=0)
    """Units of work at a time in this process; 0 leaves all work to `rlt worker` processes."""
    unit_problems: int = Field(32, gt=0, le=1024)
    """Problems in a unit, which is written as one shard and repeated as a whole where a worker dies."""
    heartbeat_seconds: float = Field(5, gt=0)
    """Seconds between two signs of life of a worker."""
    takeover_seconds: float = Field(30, gt=0)
    """Silence after which a worker's units are given to others."""

    @model_validator(mode="after")
    def _takeover_after_heartbeats(self) -> Self:
        if self.takeover_seconds < 2 * self.heartbeat_seconds:
            raise ValueError("takeover_seconds must be at least twice heartbeat_seconds: a late heartbeat is no death")
        return self


class Limits(Config):
    """What one caller may ask for, and how much the service takes on."""

    body_bytes: int = Field(4 * 2**20, gt=0)
    """Longest request body, uploads aside."""
    upload_bytes: int = Field(512 * 2**20, gt=0)
    """Longest uploaded file."""
    body_seconds: float = Field(30, gt=0)
    """Time in which a request's body must have arrived (an upload: ten times as long)."""
    request_seconds: float = Field(600, gt=0)
    """Time in which an explanation or a score must be made."""
    requests_per_minute: int = Field(6000, gt=0)
    """Requests of one key (without keys: of one address) a minute."""
    running: int = Field(256, gt=0)
    """Explanations and scores that are made at a time."""
    waiting: int = Field(512, ge=0)
    """Requests that may wait for a place; one more is answered 429."""
    samples: int = Field(64, gt=0)
    """Explanations in one request."""
    max_tokens: int = Field(16_384, gt=0)
    """Longest explanation that may be asked for, in tokens."""
    text_characters: int = Field(400_000, gt=0)
    """Longest question, solution or explanation in a request."""
    inline_problems: int = Field(10_000, gt=0)
    """Problems that may stand in the body of a dataset request; more come as a file."""
    batch_lines: int = Field(50_000, gt=0)
    """Lines of a batch file."""
    datasets: int = Field(100, gt=0)
    """Datasets and batches that may be unfinished at a time."""
    local_sources: bool = False
    """Let dataset requests read files and folders of the server's own machine by path."""


class DryRunSettings(PilotSettings):
    """What a dry run of a dataset tries, and for how long."""

    at_most: int = Field(64, gt=0)
    """Problems at most."""
    seconds: float = Field(300, gt=0)
    """Longest dry run: what is whole by then is the pilot. One is made at a time."""


class ServiceConfig(EngineSettings, StudentSettings, JobSettings):
    """What a service and its workers have in common."""

    log_format: Literal["auto", "json", "text"] = "auto"
    """Log lines as JSON or as text; auto is text on a terminal."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe lines that are logged; prompts are never logged at info."""

    @model_validator(mode="after")
    def _one_scorer(self) -> Self:
        if self.student is not None and self.scorer_url is not None:
            raise ValueError("student and scorer_url: name one; scores are made here, or there")
        return self

    @model_validator(mode="after")
    def _student_is_here(self) -> Self:
        if self.scoring.urls:
            raise ValueError("scoring.urls: the service reads its student itself; give scorer_url, or leave it out")
        return self


class ServeConfig(ServiceConfig):
    """Serves a teacher over REST: explanations, scores, datasets as durable jobs, an OpenAI-compatible API."""

    host: str = "127.0.0.1"
    """Address to listen on; any but loopback needs an API key first (`rlt keys create`)."""
    port: int = Field(8080, ge=0, le=65_535)
    """Port to listen on; 0 picks a free one."""
    limits: Limits = Limits()
    """What one caller may ask for, and how much the service takes on."""
    dry_run: DryRunSettings = DryRunSettings()
    """What a dry run of a dataset tries, and for how long."""
    runs: str | None = None
    """Folder under which training runs are shown (console, `/v1/admin/runs`); it is only read, and no link followed."""
    shutdown_seconds: float = Field(20, gt=0)
    """How long requests may go on after SIGTERM."""


class WorkerConfig(ServiceConfig):
    """Works on the datasets and batches of a service; any number, on any machine that reaches database and storage."""


class KeysConfig(Config):
    """Creates, lists and revokes API keys; a key is shown once, as it is created."""

    action: CliPositionalArg[Literal["create", "list", "revoke"]]
    """What to do."""
    key: str | None = None
    """For create: a name for the key, to know it by. For revoke: the key's id, as `rlt keys list` shows it."""
    scopes: tuple[Scope, ...] = Field(("explain", "datasets"), min_length=1)
    """What the key may do, as `a,b`: explain (also scores and chat), datasets (also files and batches), admin."""
    data: str = "rlt-data"
    """The service's data folder, unless RLT_DATABASE_URL says where its database is."""

    @model_validator(mode="after")
    def _a_key_is_named(self) -> Self:
        if self.action != "list" and not self.key:
            raise ValueError(f"key: is required to {self.action}; `rlt keys {self.action} --key NAME`")
        return self


OF_SERVE = frozenset({"teacher", "requests", "concurrency", "max_tokens", "rows"})
"""Settings of `rlt bench serve` that mean nothing for score."""


class BenchConfig(ModelSettings):
    """Measures the scorer against the reference algorithm, or the service against bare vLLM, as ratios in one run."""

    what: CliPositionalArg[Literal["score", "serve"]] = "score"
    """score = what a reward costs in CPU seconds and memory; serve = throughput of explanations and a dataset job."""
    out: str = "benchmarks/results"
    """Folder for the table and the plot."""
    rounds: int = Field(3, gt=0)
    """Rounds, ours and theirs in turn; medians are compared."""
    quick: bool = False
    """For score: 64 explanations alone, without other numbers and lengths; with one round, a few minutes."""
    teacher: str | None = None
    """For serve: the model to serve; unset makes a small one from scratch."""
    requests: int = Field(256, gt=0)
    """For serve: explanations in a round, `concurrency` at a time."""
    concurrency: int = Field(64, gt=0)
    """For serve: requests in flight."""
    max_tokens: int = Field(128, gt=0)
    """For serve: tokens of each explanation."""
    rows: int = Field(2000, gt=0)
    """For serve: rows of the dataset job."""

    @model_validator(mode="after")
    def _what_is_measured_takes_these(self) -> Self:
        if self.what == "serve" and self.quick:
            raise ValueError("quick: is for `rlt bench score`; for serve lower --rounds, --requests and --rows")
        if self.what == "score" and (self.device not in ("auto", "cpu") or self.dtype not in ("auto", "float32")):
            raise ValueError("device and dtype: `rlt bench score` measures float32 on the CPU; leave them out")
        if self.what == "score" and (given := sorted(self.model_fields_set & OF_SERVE)):
            raise ValueError(f"{', '.join(given)}: for `rlt bench serve` alone; leave out for score")
        return self


VERBS: list[Verb] = [
    Verb(11, "serve", "serve a teacher over REST, on vLLM", ServeConfig, "server.serve:main"),
    Verb(
        12,
        "worker",
        "work on a service's datasets, on this or another machine",
        WorkerConfig,
        "server.worker:main",
    ),
    Verb(13, "keys", "create, list and revoke API keys", KeysConfig, "server.state.keys:main"),
    Verb(14, "bench", "measure the scorer, or the service", BenchConfig, "server.benches:main"),
]
