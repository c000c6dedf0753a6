"""The settings of the teacher's verbs, and the verbs themselves. Loads no torch: `rlt --help` reads this file."""

from typing import Annotated, Literal, Self

from pydantic import Field, FiniteFloat, model_validator
from pydantic_settings import CliPositionalArg

from student.cli import Verb
from student.config import Config
from student.configs import (
    GrpoSettings,
    LoraConfig,
    MeasureSettings,
    ModelSettings,
    PilotSettings,
    ProblemSource,
    ProgressWatch,
    RewardConfig,
    RolloutSettings,
    SamplingSettings,
    ScoringSettings,
    SftConfig,
    Tracker,
)
from student.measures.results import Measure
from student.tags import TagStyle


def _refuse_exact_kl_elsewhere(reward: RewardConfig, scoring: ScoringSettings) -> None:
    if reward.kl_estimator == "exact" and scoring.urls:
        raise ValueError("reward.kl_estimator 'exact' takes all logits, and scoring.urls give none; use k1 or k3")


class WarmupConfig(ProblemSource, ModelSettings):
    """Teaches a model the explanation format: SFT on existing reasoning traces, loss on the explanation only."""

    model: str
    """The model to warm up, a folder or hub name."""
    out: str
    """Folder for the warmed-up teacher."""
    tags: TagStyle = "rlt"
    """Tag style."""
    formats: Literal["teacher", "student", "both"] = "teacher"
    """Which chat the traces are shown in; both gives, from scratch, one model to be teacher and student."""
    sft: SftConfig = SftConfig(
        epochs=10, batch_size=16, warmup_fraction=0.05, adam_beta2=0.95, weight_decay=1e-4, learning_rate=1e-5
    )
    """The paper's warm-up by default: 10 epochs, batch 16, lr 1e-5 cosine, AdamW 0.9/0.95."""


class GrpoConfig(GrpoSettings):
    """GRPO as the paper runs it: 125 steps of 16 prompts x 64 explanations, fully on-policy."""

    held_out: int = Field(0, ge=0)
    """Problems, the last ones, that are not trained on: their reward is measured at every checkpoint, the best kept."""


class WatchSettings(ProgressWatch):
    """When a training run stops by itself, and what it shows. As in the paper, no figure stops it unless a threshold is
    set."""

    leak_rise: float | None = Field(None, gt=0, le=1)
    """Save and stop where the reward rises and with it the share of explanations that leak, by this much (of 1)."""
    kl_tail_rise: float | None = Field(None, gt=0)
    """The same for the largest KL of an explanation's token (rkl/max), in nats."""
    window: int = Field(20, gt=0)
    """Log entries whose means are compared: the first of this start, and the last."""
    sample_steps: int = Field(10, ge=0)
    """Steps between two looks at what is sampled: some explanations go to samples.jsonl; 0 keeps none."""


class TrainConfig(ProblemSource, ModelSettings):
    """Trains a teacher by GRPO against a frozen student's log-probabilities."""

    teacher: str
    """The warmed-up teacher, a model folder or hub name."""
    student: str
    """The frozen student whose understanding is the reward, a folder or hub name."""
    out: str
    """Folder for the trained teacher, its checkpoints and its logs."""
    tags: TagStyle = "rlt"
    """Tag style."""
    reward: RewardConfig = RewardConfig()
    """The reward."""
    scoring: ScoringSettings = ScoringSettings()
    """Cost of scoring."""
    grpo: GrpoConfig = GrpoConfig()
    """The RL recipe."""
    rollout: RolloutSettings = RolloutSettings()
    """How explanations are sampled."""
    lora: LoraConfig | None = None
    """Train an adapter and merge it at the end; any of its settings turns it on."""
    watch: WatchSettings = WatchSettings()
    """When it stops by itself, and what it shows meanwhile."""
    tracker: Tracker = "tensorboard"
    """Where metrics go, besides metrics.jsonl in the output folder."""

    @model_validator(mode="after")
    def _exact_kl_is_read_here(self) -> Self:
        _refuse_exact_kl_elsewhere(self.reward, self.scoring)
        return self

    @model_validator(mode="after")
    def _an_adapter_has_no_reference_that_moves(self) -> Self:
        if self.lora is None:
            return self
        if self.grpo.beta > 0 and self.grpo.reference_sync_steps > 0:
            raise ValueError(
                "lora: the reference is the model without its adapter, and TRL cannot move that "
                f"(grpo.reference_sync_steps is {self.grpo.reference_sync_steps}); set it to 0 and the reference stays "
                "where it is, or set grpo.beta to 0 and there is none"
            )
        if self.grpo.held_out:
            raise ValueError(
                "lora: checkpoints hold the adapter alone, so no best model is kept; set grpo.held_out to 0"
            )
        return self


class ExplainConfig(ProblemSource, ModelSettings):
    """Has a teacher explain problems; a killed run continues and repeats nothing."""

    teacher: str
    """The teacher, a model folder or hub name."""
    out: str
    """Where to write the explanations (JSONL or Parquet)."""
    samples: int = Field(1, gt=0)
    """Explanations a problem."""
    tags: TagStyle = "rlt"
    """Tag style."""
    estimate: str | None = None
    """What `rlt estimate --out` wrote; what was taken is told beside it at the end."""
    sampling: SamplingSettings = SamplingSettings()
    """How explanations are sampled."""


class EstimateConfig(ProblemSource, ModelSettings):
    """Tells what `rlt explain` will take with these settings: tokens, time, disk, from a pilot of the problems."""

    teacher: str
    """The teacher, a model folder or hub name."""
    out: str | None = None
    """Where to write the estimate (JSON), for `rlt explain --estimate`; unset only prints it."""
    samples: int = Field(1, gt=0)
    """Explanations a problem."""
    tags: TagStyle = "rlt"
    """Tag style."""
    student: str | None = None
    """A student, to tell what `rlt score` with it (and the teacher, for rKL) will take as well."""
    form: Literal["jsonl", "parquet"] = "jsonl"
    """As what the explanations will be written."""
    pilot: PilotSettings = PilotSettings()
    """Which problems are tried first."""
    sampling: SamplingSettings = SamplingSettings()
    """How explanations are sampled."""


EngineName = Literal["transformers", "vllm"]


class ReplayConfig(ModelSettings):
    """Makes one row of explanations again from what it says of itself, and tells whether it comes out the same."""

    explanations: CliPositionalArg[str]
    """Explanations of `rlt explain`, scored or not, or those that a service exported."""
    row: str
    """Id of the row, `problem_id-sample`."""
    teacher: str
    """The teacher that wrote it, a model folder or hub name."""
    engine: EngineName | None = None
    """What samples; unset is what the row says. `dtype auto` takes the row's precision."""


class ScoreConfig(ModelSettings):
    """Scores explanations (any traces) by a student's understanding: the reward, its parts and further measures."""

    traces: str
    """Explanations from `rlt explain`, or problems with a reasoning_trace column."""
    student: str
    """The frozen student, a model folder or hub name."""
    out: str
    """Where to write the scored rows (JSONL or Parquet)."""
    teacher: str | None = None
    """The model that wrote the traces; without it rKL is left out and the reward is rSS alone."""
    tags: TagStyle = "rlt"
    """Tag style."""
    skip_invalid: bool = False
    """Set bad rows aside in a side file and go on, instead of stopping before any work."""
    reward: RewardConfig = RewardConfig()
    """The reward."""
    scoring: ScoringSettings = ScoringSettings()
    """Cost of scoring."""
    measures: MeasureSettings = MeasureSettings()
    """What else is measured."""

    @model_validator(mode="after")
    def _exact_kl_is_read_here(self) -> Self:
        _refuse_exact_kl_elsewhere(self.reward, self.scoring)
        return self

    @model_validator(mode="after")
    def _who_writes_is_here(self) -> Self:
        if self.measures.writes and self.scoring.urls:
            name = "verified" if self.measures.verified else "step_thought 'finished'"
            raise ValueError(f"measures.{name}: the student must write, and on servers (scoring.urls) it only reads")
        return self


class ResampleConfig(ModelSettings):
    """Samples more explanations of the problems whose best one is not good enough, worst first, within a budget."""

    rows: str
    """Explanations with their scores, from `rlt score`."""
    more: tuple[str, ...] = ()
    """Further rows of these problems, such as those of an earlier `rlt resample` once they are scored."""
    teacher: str
    """The teacher, a model folder or hub name."""
    out: str
    """Where to write the further explanations (JSONL or Parquet)."""
    threshold: FiniteFloat
    """A problem whose best row is worse than this gets more."""
    by: Measure = "reward"
    """The measure; rkl, leak, repetition, tokens and context_share are better when lower."""
    budget_tokens: int = Field(gt=0)
    """Tokens that the further explanations may have together."""
    samples: int = Field(4, gt=0)
    """Further explanations a problem, at most."""
    tags: TagStyle = "rlt"
    """Tag style."""
    sampling: SamplingSettings = SamplingSettings()
    """How explanations are sampled."""

    @model_validator(mode="after")
    def _differs_and_fits(self) -> Self:
        if self.sampling.temperature == 0:
            raise ValueError("sampling.temperature 0 would write the same explanation again; use 0.7, or another")
        if self.budget_tokens < self.sampling.max_tokens:
            raise ValueError(
                f"budget_tokens ({self.budget_tokens}) holds no explanation of sampling.max_tokens "
                f"({self.sampling.max_tokens}); raise the one or lower the other"
            )
        return self


class RunConfig(Config):
    """Runs a whole recipe: every table of a TOML file in order. What is done already is not done again."""

    recipe: CliPositionalArg[str]
    """A TOML file with one table a verb, or the name of a checked-in recipe."""
    problems: str | None = None
    """The problems, for every table that names none."""


class PlanConfig(Config):
    """Tells what a recipe's RL takes on some numbers of GPUs, by arithmetic: memory, seconds a step, what to change."""

    recipe: CliPositionalArg[str]
    """A TOML file or the name of a checked-in recipe; its [train] table is planned."""
    model: str | None = None
    """The teacher's shape: 1.5B, 7B or 32B (Qwen2.5's), or a model's folder; unset is the recipe's teacher."""
    student: str | None = None
    """The student's shape; unset is the teacher's."""
    gpus: tuple[Annotated[int, Field(gt=0)], ...] = Field((1, 8, 64), min_length=1)
    """Numbers of GPUs."""
    card: Literal["h200", "h100", "a100"] = "h200"
    """What kind they are."""
    machine: int = Field(8, gt=0)
    """GPUs a machine."""
    engine: Literal["vllm", "vllm-server"] | None = None
    """Where explanations are sampled; unset is as in the recipe. One GPU, and transformers, count as vllm."""
    sampling_gpus: int | None = Field(None, gt=0)
    """GPUs that do nothing but sample, for vllm-server; unset is half of them, at most a machine."""
    student_gpus: int = Field(0, ge=0)
    """GPUs that do nothing but read as the student, on servers; 0 has every GPU that trains hold it."""
    prompt_tokens: int = Field(1024, gt=0)
    """Tokens of a prompt in the mean, question and solution."""
    explanation_tokens: int = Field(4096, gt=0)
    """Tokens of an explanation in the mean, at most what the recipe allows."""
    training_share: float = Field(0.4, gt=0, le=1)
    """Share of the card's FLOP that the loss and its gradient reach."""
    reading_share: float = Field(0.5, gt=0, le=1)
    """The same of passes without a gradient."""
    decoding_share: float = Field(0.6, gt=0, le=1)
    """Share of the memory's bandwidth that decoding reaches."""
    out: str | None = None
    """Where to write the plan (JSON); unset only prints it."""


class DemoConfig(Config):
    """Trains a teacher by RL in a toy world and measures what students learn from it; no downloads, one CPU."""

    out: str = "demo"
    """Folder for report.html, report.json and everything made on the way."""
    seeds: int = Field(1, gt=0)
    """How many seeds to run."""
    first_seed: int = 0
    """The first seed."""
    full: bool = False
    """Add the ablations: rSS only, rKL only, lambda 1, best-of-n, reward quartiles, outcome RL, another student."""
    jobs: int = Field(1, gt=0)
    """Seeds run at the same time, one thread each."""
    recipe: str = "toy"
    """The settings of every step: a TOML file, or the name of a checked-in recipe."""


VERBS = [
    Verb(
        3,
        "warmup",
        "teach a model the explanation format (SFT on traces)",
        WarmupConfig,
        "teacher.warmup:main",
        spreads=True,
    ),
    Verb(
        4,
        "train",
        "train a teacher by RL on the student's understanding",
        TrainConfig,
        "teacher.train:main",
        spreads=True,
    ),
    Verb(4.5, "estimate", "tell what explaining will take, from a pilot", EstimateConfig, "teacher.estimate:main"),
    Verb(5, "explain", "have a teacher explain problems", ExplainConfig, "teacher.explain:main"),
    Verb(6, "score", "score any traces by any student: rSS, rKL and the reward", ScoreConfig, "teacher.score:main"),
    Verb(
        6.2,
        "resample",
        "sample more of the problems whose best explanation is not good enough",
        ResampleConfig,
        "teacher.resample:main",
    ),
    Verb(6.4, "replay", "make one row again, and tell whether it is the same", ReplayConfig, "teacher.replay:main"),
    Verb(3.5, "plan", "tell what training takes on GPUs: memory, seconds a step", PlanConfig, "teacher.plan.plan:main"),
    Verb(9, "run", "run a whole recipe, verb after verb", RunConfig, "teacher.recipe:main"),
    Verb(10, "demo", "the whole chain in a toy world, with a report", DemoConfig, "teacher.demo.run:main"),
]
