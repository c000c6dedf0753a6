"""The settings of the student's verbs, and the verbs themselves. Loads no torch: `rlt --help` reads this file."""

import re
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import CliPositionalArg

from student.cli import Verb
from student.config import Config
from student.curation.settings import Contamination, Duplicates, Filters, Ranking
from student.exports.names import ExportName, FileType, OriginColumn, RlFormat, SftFormat
from student.tags import TagStyle

KlEstimator = Literal["k1", "k3", "exact"]
Grading = Literal["math", "exact", "choice", "countdown"]
Tracker = Literal["tensorboard", "wandb", "trackio", "none"]


class ProblemSource(Config):
    """Where problems come from and how their columns are read."""

    problems: str
    """File (JSONL, JSON, CSV, Parquet), `datasets` folder or hub name that holds the problems."""
    split: str = "train"
    """Split to read where the source has several."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Own column names, as field=column (fields: question, solution, reasoning_trace, answer); synonyms are found."""
    license: str | None = None
    """Licence of the problems (an SPDX name), for rows whose source has no column `license`."""
    skip: int = Field(0, ge=0)
    """Leave out the first N problems (those may be for training, the rest for evaluation)."""
    limit: int | None = Field(None, gt=0)
    """Use only the first N problems of what is left."""
    skip_invalid: bool = False
    """Set bad rows aside in a side file and go on, instead of stopping before any work."""


class ModelSettings(Config):
    """How a model is loaded."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the model runs; auto takes CUDA, then Apple's MPS, then the CPU."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the weights; auto is bfloat16 on CUDA and float32 elsewhere."""
    threads: int = Field(0, ge=0)
    """CPU threads for torch; 0 leaves torch's default, 1 is fastest for models of a few million parameters."""


class RewardConfig(Config):
    """The reward of method.md 3; the defaults are the paper's coefficients, [1, 0.01] and [3, 0.03]."""

    ss_weight: float = Field(1.0, ge=0)
    """Weight of rSS: does the student understand the solution after the explanation?"""
    ss_min_weight: float = Field(0.01, ge=0)
    """Inside rSS, weight of the least likely solution token (the paper's alpha)."""
    kl_weight: float = Field(3.0, ge=0)
    """Weight of rKL (the paper's lambda): is each step plausible to a student who does not know the solution?"""
    kl_max_weight: float = Field(0.01, ge=0)
    """Inside rKL, weight of the least plausible explanation token (the paper's alpha)."""
    kl_estimator: KlEstimator = "k1"
    """Per-token KL: k1 = sampled log ratio (the paper's), k3 = kl - 1 + exp(-kl), exact = over the full vocabulary."""
    temperature: float = Field(0.7, gt=0)
    """Teacher and student are both scored at this temperature (logits are divided by it); RL samples at it too."""
    unclosed_penalty: float = Field(1.0, ge=0)
    """What an explanation without its end tag costs, besides being scored as if it were closed."""


class ScoringSettings(Config):
    """How the student's log-probabilities are computed, and where; none of it changes the numbers."""

    tokens_per_batch: int | None = Field(None, gt=0)
    """Tokens that go through the student at once, padding included; unset is what suits device and vocabulary."""
    head_rows: int = Field(256, gt=0)
    """Positions whose logits are held at once, a few thousand columns of them."""
    pack: bool = True
    """Read many explanations in one row, and what they share of a problem once; off reads each in a row of its own."""
    max_tokens: int | None = Field(None, gt=0)
    """Longest sequence the student reads; unset is the model's own limit, or the least of the servers'."""
    urls: tuple[str, ...] = ()
    """Addresses (http://host:port) of vLLM servers that hold the student; unset reads it in this process."""
    model: str | None = None
    """The student's name on those servers; unset is the name they give."""
    in_flight: int = Field(16, gt=0)
    """Passages that each of those servers is given at a time."""
    retry_seconds: float = Field(600, gt=0)
    """How long a passage waits for servers that do not answer before the run stops."""
    self_test: bool = True
    """Read fixed texts with the student here, on the CPU, and refuse a server that reads them otherwise."""
    tolerance: float | None = Field(None, gt=0)
    """Nats a token, on average, by which a server may differ there; unset is 0.001, or 0.05 for 16-bit weights."""

    @field_validator("urls")
    @classmethod
    def _addresses(cls, urls: tuple[str, ...]) -> tuple[str, ...]:
        for url in urls:
            if not re.fullmatch(r"https?://[^/?#]+/?", url):
                raise ValueError(f"{url!r} is no server's address; give http://HOST:PORT")
        return urls


class MeasureSettings(Config):
    """What is measured of an explanation besides its reward."""

    gain: bool = True
    """How much likelier the solution becomes by the explanation; one more passage a problem is read, without it."""
    step_credit: bool = False
    """How much of the gain each step brings; the explanation is read once more, with the solution behind each step."""
    most_steps: int = Field(32, gt=1, le=256)
    """Steps of an explanation at most; where it has more, neighbours are joined."""
    step_thought: Literal["closed", "finished"] = "closed"
    """Behind each step the thought is closed, or the student finishes it first: sharper, a text sampled for each."""
    leak: bool = True
    """How surely the explanation announces the solution, copies it or refers to it instead of deriving it."""
    repetition: bool = True
    """The share of the explanation that says again what it said."""
    length: bool = True
    """Tokens of the row as the student reads it, and as a share of what it can read."""
    verified: bool = False
    """Whether the student, once it has read the explanation, answers right: one answer is sampled, greedily."""
    grading: Grading = "math"
    """How that answer is graded: as LaTeX or a number, as the same text, as an option's letter, as an expression."""
    own_tokens: int = Field(512, gt=0)
    """Longest text that the student writes itself, in tokens: its answer, or how it finishes a thought."""

    @property
    def writes(self) -> bool:
        """Whether the student must write, and not only read."""
        return self.verified or (self.step_credit and self.step_thought == "finished")


class SamplingSettings(Config):
    """How text is sampled from a model."""

    temperature: float = Field(0.7, ge=0)
    """Sampling temperature; 0 is greedy."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling: keep the most likely tokens that hold this much probability."""
    max_tokens: int = Field(16_384, gt=0)
    """Longest text sampled, in tokens."""
    seed: int = 0
    """Each sample's own seed is derived from this, its problem and its number: order and batching do not matter."""
    engine: Literal["auto", "transformers", "vllm"] = "auto"
    """What samples: vllm (in-process), transformers, or auto = vllm on a GPU where it is installed."""
    batch_size: int = Field(64, gt=0)
    """Texts sampled at a time."""


class EvaluationSettings(ProblemSource):
    """How often each problem is solved, and what makes a solution right."""

    samples: int = Field(4, gt=0)
    """Samples a problem (1 is enough at temperature 0)."""
    grading: Grading = "math"
    """math = math-verify (LaTeX, fractions, units); exact = the same text, space aside; choice = an option's letter;
    countdown = any expression of the same numbers and value."""
    sampling: SamplingSettings = SamplingSettings()
    """How solutions are sampled."""


class PilotSettings(Config):
    """Which problems are tried first."""

    share: float = Field(0.01, gt=0, le=1)
    """Share of the problems, within the bounds below."""
    at_least: int = Field(8, gt=0)
    """Problems at least, where there are so many."""
    at_most: int = Field(200, gt=0)
    """Problems at most."""
    seed: int = 0
    """Which problems are drawn."""

    @model_validator(mode="after")
    def _bounds_in_order(self) -> Self:
        if self.at_least > self.at_most:
            raise ValueError(f"at_least ({self.at_least}) is more than at_most ({self.at_most})")
        return self


class SftConfig(Config):
    """Supervised fine-tuning of a causal LM on the completion's tokens."""

    epochs: float = Field(3.0, gt=0)
    """Passes over the rows."""
    max_steps: int | None = Field(None, gt=0)
    """Stop after this many optimizer steps, whatever `epochs` says."""
    batch_size: int = Field(96, gt=0)
    """Rows an optimizer step, over all devices and accumulation steps."""
    rows_per_device: int = Field(8, gt=0)
    """Rows that go through the model at once on each device; the rest of the batch is accumulated."""
    learning_rate: float = Field(1e-5, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["cosine", "linear", "constant", "stable_decay"] = "cosine"
    """Learning rate after warm-up; stable_decay is constant, then linear to zero over the last 40 % of the steps."""
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """muon trains the matrices with torch.optim.Muon and the rest with AdamW: for models trained from scratch."""
    muon_learning_rate: float = Field(0.02, gt=0)
    """Peak learning rate of Muon, for the matrices."""
    adam_beta1: float = Field(0.9, ge=0, lt=1)
    """AdamW's beta 1."""
    adam_beta2: float = Field(0.999, ge=0, lt=1)
    """AdamW's beta 2."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    max_tokens: int = Field(16_384, gt=0)
    """Rows longer than this are left out, and counted."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    save_steps: int = Field(500, gt=0)
    """Optimizer steps between checkpoints; a killed run goes on from the last."""
    keep_checkpoints: int = Field(2, gt=0)
    """How many checkpoints are kept."""
    log_steps: int = Field(10, gt=0)
    """Optimizer steps between two log entries."""
    seed: int = 0
    """Order of the rows."""


class LoraConfig(Config):
    """Training a low-rank adapter instead of the weights; it is merged into them at the end."""

    rank: int = Field(16, gt=0)
    """Rank of the adapter's matrices."""
    alpha: float = Field(32.0, gt=0)
    """The adapter's output is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout before the adapter."""
    targets: Literal["all", "attention"] = "all"
    """Which linear layers have one: all inside the blocks, or those named q_proj, k_proj, v_proj and o_proj."""


class ProblemsConfig(ProblemSource):
    """Reads a file of problems as every other verb would, says what it found, and writes it in our own form."""

    out: str | None = None
    """Where to write the problems as read (JSONL or Parquet); unset only reports."""
    tags: TagStyle = "rlt"
    """Tag style; problems that contain one of its tags are refused."""


class ScratchConfig(ProblemSource, ModelSettings):
    """Makes a small Qwen2 model with random weights, and a byte-level BPE tokenizer trained on the problems."""

    out: str
    """Folder for the model."""
    vocabulary: int = Field(4096, ge=300)
    """Tokens in the tokenizer."""
    hidden_size: int = Field(256, gt=0)
    """Width of the residual stream."""
    layers: int = Field(6, gt=0)
    """Transformer blocks."""
    heads: int = Field(4, gt=0)
    """Attention heads."""
    key_value_heads: int = Field(4, gt=0)
    """Heads of keys and values."""
    intermediate_size: int = Field(768, gt=0)
    """Width of the SwiGLU blocks."""
    max_tokens: int = Field(1024, gt=0)
    """Longest sequence."""
    seed: int = 0
    """Seed of the weights."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        if self.hidden_size % self.heads or self.heads % self.key_value_heads:
            raise ValueError("heads must divide hidden_size, and key_value_heads must divide heads")
        return self


class CountdownConfig(Config):
    """Draws countdown problems: make a number out of others by the four operations, each number once."""

    out: str
    """Where to write the problems (JSONL or Parquet)."""
    count: int = Field(1000, gt=0)
    """How many, no question twice."""
    fewest: int = Field(3, ge=2)
    """Numbers in a problem at least."""
    most: int = Field(4, ge=2, le=8)
    """Numbers in a problem at most."""
    largest_number: int = Field(25, ge=2)
    """Numbers are 1 to this."""
    largest_target: int = Field(100, ge=2)
    """Targets, and every step on the way to them, are 1 to this."""
    seed: int = 0
    """Which problems."""

    @model_validator(mode="after")
    def _fewest_is_less(self) -> Self:
        if self.fewest > self.most:
            raise ValueError(f"fewest ({self.fewest}) must not be more than most ({self.most})")
        return self


class CompareConfig(Config):
    """Compares two evaluations problem by problem: the difference and its interval, what was gained, what forgotten."""

    first: CliPositionalArg[str]
    """Folder of an evaluation (`rlt evaluate --out`): the model before, or the one to compare with."""
    second: CliPositionalArg[str]
    """Folder of the other evaluation, of the same problems."""
    out: str | None = None
    """Where to write the comparison as JSON; unset only prints it."""
    seed: int = 0
    """Of the bootstrap's resampling."""


class PreferenceConfig(Config):
    """Training on which explanation of a problem is better, by reward."""

    beta: float = Field(0.1, gt=0)
    """How strongly the student is held to what it was."""
    pairs: int = Field(1, gt=0)
    """DPO: pairs a problem at most: best and worst, second best and second worst, ..."""
    margin: float = Field(0.0, ge=0)
    """DPO: pairs whose rewards differ by less make none."""
    threshold: float | None = None
    """KTO: reward above which an explanation is a good one; by default the median of its problem's."""


class DistillConfig(ModelSettings):
    """Trains a student on question -> thought -> solution, from explanations."""

    explanations: str
    """Explanations from `rlt explain` or `rlt score`, or problems with a reasoning_trace column."""
    student: str
    """The model to train, a folder or hub name."""
    out: str
    """Folder for the trained student."""
    method: Literal["sft", "dpo", "kto"] = "sft"
    """sft learns every row; dpo the better of two of a problem over the worse, kto good rows over bad, by reward."""
    think: Literal["explanation", "none"] = "explanation"
    """What stands in the thought: the explanation, or nothing (the answers-only baseline)."""
    keep_unclosed: bool = False
    """Also train on explanations that never reached their end tag."""
    tags: TagStyle = "rlt"
    """Tag style."""
    skip_invalid: bool = False
    """Set bad rows aside in a side file and go on, instead of stopping before any work."""
    sft: SftConfig = SftConfig()
    """The Sky-T1 recipe by default: lr 1e-5 cosine, warm-up 0.1, 3 epochs, batch 96, 16,384 tokens."""
    preference: PreferenceConfig = PreferenceConfig()
    """What dpo and kto prefer; how they train is `sft`'s, a pair counting as one row of the batch."""
    lora: LoraConfig | None = None
    """Train an adapter and merge it at the end; any of its settings turns it on. For sft."""
    retention: EvaluationSettings | None = None
    """A second suite that is solved by the student as it was before and as it is after: what did it forget?"""

    @model_validator(mode="after")
    def _preferences_are_among_thoughts(self) -> Self:
        if self.method != "sft" and self.think == "none":
            raise ValueError(f"method {self.method} prefers one explanation to another, and think is none: drop one")
        if self.lora is not None and self.method != "sft":
            raise ValueError(f"lora is for method sft, and method is {self.method}: drop one")
        return self


class GrpoSettings(Config):
    """GRPO as the paper trains teachers: 125 steps of 16 prompts x 64 samples, fully on-policy."""

    steps: int = Field(125, gt=0)
    """Optimizer steps."""
    prompts_per_step: int = Field(16, gt=0)
    """Problems a step, over all devices."""
    group_size: int = Field(64, gt=1)
    """Samples a problem; the reward is compared inside this group."""
    rows_per_device: int = Field(1, gt=0)
    """Samples that go through the model at once on each device; the rest of the step is accumulated."""
    steps_per_generation: int = Field(1, gt=0)
    """Optimizer steps made from one batch of samples: 1 is on-policy, the paper's setting."""
    learning_rate: float = Field(1e-6, gt=0)
    """Peak learning rate of AdamW."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    """Learning rate after warm-up."""
    warmup_steps: int = Field(0, ge=0)
    """Steps in which the learning rate rises."""
    beta: float = Field(0.04, ge=0)
    """Weight of the k3 KL to the reference model; 0 keeps no reference."""
    reference_sync_steps: int = Field(32, ge=0)
    """Steps between two moves of the reference towards the policy; 0 never moves it."""
    reference_mixup: float = Field(0.9, gt=0, le=1)
    """Share of the policy in the reference after a move."""
    loss: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = "grpo"
    """How per-token losses are averaged (TRL's names); grpo is the paper's."""
    scale_rewards: Literal["group", "batch", "none"] = "group"
    """What advantages are divided by."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Gradients are clipped to this norm."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, a third more time."""
    save_steps: int = Field(25, gt=0)
    """Optimizer steps between checkpoints; a killed run goes on from the last, exactly."""
    keep_checkpoints: int = Field(2, gt=0)
    """How many checkpoints are kept."""
    log_steps: int = Field(1, gt=0)
    """Optimizer steps between two log entries."""
    seed: int = 0
    """Order of the problems and of sampling."""

    @model_validator(mode="after")
    def _saves_fall_between_generations(self) -> Self:
        if self.save_steps % self.steps_per_generation:
            raise ValueError(
                f"save_steps ({self.save_steps}) must be a multiple of steps_per_generation "
                f"({self.steps_per_generation}): a checkpoint inside one generation cannot be resumed exactly"
            )
        return self


class RolloutSettings(Config):
    """How text is sampled during RL; the temperature is a setting of the verb."""

    engine: Literal["transformers", "vllm", "vllm-server"] = "transformers"
    """transformers generate; vllm in the training process (CPU too); or a `trl vllm-serve` server on its own GPUs."""
    server_url: str = "http://127.0.0.1:8000"
    """Address of the server, for vllm-server."""
    top_p: float = Field(1.0, gt=0, le=1)
    """Nucleus sampling."""
    max_prompt_tokens: int = Field(16_384, gt=0)
    """Problems whose prompt is longer are left out, and counted."""
    max_tokens: int = Field(16_384, gt=0)
    """Longest sample, in tokens, end tag or end of text included."""
    gpu_memory_fraction: float = Field(0.3, gt=0, lt=1)
    """Share of GPU memory that vllm in the training process takes."""
    draws: Literal["process", "sample"] = "process"
    """transformers: random numbers from a stream a process, or from one a sample, whichever process makes it."""

    @model_validator(mode="after")
    def _only_transformers_draws_so(self) -> Self:
        if self.draws == "sample" and self.engine != "transformers":
            raise ValueError(f"draws 'sample' is for engine 'transformers', and engine is {self.engine!r}")
        return self


class ProgressWatch(Config):
    """When a training run that hangs ends by itself."""

    no_progress_minutes: float = Field(240, ge=0)
    """Minutes without a finished step after which the run ends, every thread's stack on stderr; 0 waits for ever."""


class ColdstartConfig(ProblemSource, ModelSettings):
    """Trains a student by GRPO on whether its own solutions are right, from where distillation left it."""

    student: str
    """The model to train, a folder or hub name: a distilled student, or a base to compare with."""
    out: str
    """Folder for the trained student, its checkpoints and its logs."""
    tags: TagStyle = "rlt"
    """Tag style."""
    grading: Grading = "math"
    """What makes a solution right, as in `rlt evaluate`: math, exact, choice or countdown."""
    temperature: float = Field(1.0, gt=0)
    """Solutions are sampled, and their log-probabilities taken, at this temperature."""
    grpo: GrpoSettings = GrpoSettings(group_size=16, prompts_per_step=32)
    """The RL recipe: the teacher's, with 32 problems a step and 16 samples of each."""
    rollout: RolloutSettings = RolloutSettings()
    """How solutions are sampled."""
    watch: ProgressWatch = ProgressWatch()
    """When it stops by itself."""
    tracker: Tracker = "tensorboard"
    """Where metrics go, besides metrics.jsonl in the output folder."""


class ExportOptions(Config):
    """What the rows of an export are made of, whatever the format."""

    tags: TagStyle = "rlt"
    """Tag style of what the student learns to write."""
    keep_unclosed: bool = False
    """Also write explanations that never reached their end tag."""
    columns: tuple[OriginColumn, ...] = ("id", "problem_id", "reward")
    """Columns that tell where a row is from; they are called `rlt_...`, and none leaves them all out."""
    pairs: int = Field(1, gt=0)
    """Preference: pairs of a problem at most (best and worst, second best and second worst, ...)."""
    margin: float = Field(0.0, ge=0)
    """Preference: by how much the rewards of a pair differ at least."""
    threshold: float | None = None
    """KTO: the reward above which an explanation is a good one; unset is the median of its problem."""
    step_bound: float = 0.0
    """Steps: the credit from which on a step is a good one, nats a solution token."""
    step_neutral: float = Field(0.0, ge=0)
    """Steps: within this distance of the bound PRM800K's rating is 0."""
    answer_prompt: str = Field("State the final answer in \\boxed{}.", min_length=1)
    """RL: what the system message says of how the answer is stated; scorers look for it there."""
    data_source: str = Field("rlt", min_length=1)
    """RL: the name of the source; verl scores those that it knows by itself, others by compute_score.py."""
    sft_format: SftFormat = "trl-messages"
    """Cold start: the format of its problems to fine-tune on."""
    rl_format: RlFormat = "verl-rl"
    """Cold start: the format of its problems for RL."""
    rl_share: float = Field(0.5, gt=0, lt=1)
    """Cold start: the share of the questions that are for RL."""
    split_seed: int = 0
    """Cold start: another seed is another split of the same questions."""


class ExportConfig(ExportOptions):
    """Writes the rows to train on in the format of another trainer, with the files that it needs beside them."""

    rows: str | None = None
    """Explanations (JSONL, Parquet), a dataset folder of `rlt select`, or problems with a reasoning_trace column."""
    format: ExportName | None = None
    """The format to write."""
    out: str | None = None
    """Folder for the data, what the trainer needs beside it, and export.json with the counts."""
    file_type: FileType = "parquet"
    """How the rows are stored."""
    formats: bool = False
    """List the formats and do nothing else."""
    student: str | None = None
    """Student whose chat template is written out where a format has no template of its own (texts, input_output)."""
    check_student: str | None = None
    """Student with whose tokenizer and template every row is tried: too long, mask beside the answer, thought lost."""
    check_tokens: int | None = Field(None, gt=0)
    """For --check-student: the longest row, tokens; unset is the context of its configuration."""

    @model_validator(mode="after")
    def _what_is_needed(self) -> Self:
        for name in () if self.formats else ("rows", "format", "out"):
            if getattr(self, name) is None:
                raise ValueError(f"--{name} is required (--formats lists the formats)")
        return self


class EvaluateConfig(EvaluationSettings, ModelSettings):
    """Samples a student's solutions to problems and grades them: pass@1 with bootstrap intervals, truncation rate."""

    model: str
    """The model to evaluate, a folder or hub name."""
    out: str
    """Folder for report.json, report.txt and every generation (generations.jsonl)."""
    tags: TagStyle = "rlt"
    """Tag style."""


class SelectConfig(Config):
    """Chooses which explanations to train on: filters, test sets, copies, the best of each problem; says why not."""

    rows: str
    """Explanations from `rlt explain` or `rlt score`, or problems with a reasoning_trace column."""
    more: tuple[str, ...] = ()
    """Further rows, such as those of `rlt resample` once they are scored; any number of files."""
    out: str
    """Folder for all rows with their verdicts (rows.parquet), manifests, the counts and a dataset card."""
    tags: TagStyle = "rlt"
    """Tag style."""
    skip_invalid: bool = False
    """Set bad rows aside in a side file and go on, instead of stopping before any work."""
    filters: Filters = Filters()
    """Filters that look at one row alone; every one gives its verdict, the first that fails drops the row."""
    contamination: Contamination = Contamination()
    """Test sets to keep away from."""
    duplicates: Duplicates = Duplicates()
    """Rows that repeat others."""
    ranking: Ranking = Ranking()
    """The best of each problem, among the rows that are left."""


class PushConfig(Config):
    """Publishes a folder of rows with its card on the Hugging Face hub, private unless told otherwise."""

    folder: str
    """Folder of `rlt select`, or another with a card (README.md whose front matter names a license)."""
    repo: str
    """Dataset on the hub, as OWNER/NAME; it is made where it is not there."""
    public: bool = False
    """Make it public, or push to one that is; without this a public one is refused."""
    dry_run: bool = False
    """List what would be sent, and send nothing."""


VERBS = [
    Verb(
        1, "problems", "check a file of problems and say how it was read", ProblemsConfig, "student.problem_files:main"
    ),
    Verb(
        2,
        "scratch",
        "make a small model from scratch, for trying things without weights",
        ScratchConfig,
        "student.scratch:main",
    ),
    Verb(7, "distill", "train a student on explanations", DistillConfig, "student.distill:main", spreads=True),
    Verb(
        7.5,
        "coldstart",
        "train a distilled student by RL on its own right answers",
        ColdstartConfig,
        "student.coldstart:main",
    ),
    Verb(24, "export", "write explanations in another trainer's format", ExportConfig, "student.exports.export:main"),
    Verb(25, "push", "publish a folder of rows with its card on the hub", PushConfig, "student.push:main"),
    Verb(8, "evaluate", "sample and grade a model's solutions", EvaluateConfig, "student.evaluate:main"),
    Verb(21, "compare", "compare two evaluations problem by problem", CompareConfig, "student.compare:main"),
    Verb(22, "countdown", "draw countdown problems, a task to transfer to", CountdownConfig, "student.countdown:main"),
    Verb(
        6.5,
        "select",
        "choose the explanations to train on, and say why not the rest",
        SelectConfig,
        "student.curation.select:main",
    ),
]
