"""The names of the formats, and of the columns that tell where a row is from. Loads nothing: settings are read here."""

from typing import Literal

FormatName = Literal[
    "trl-prompt-completion",
    "trl-prompt-completion-text",
    "trl-messages",
    "trl-preference",
    "trl-kto",
    "trl-stepwise",
    "trl-sdft",
    "stepwise-soft",
    "prm800k",
    "math-shepherd",
    "llamafactory-alpaca",
    "llamafactory-alpaca-preference",
    "llamafactory-alpaca-kto",
    "llamafactory-sharegpt",
    "llamafactory-sharegpt-preference",
    "llamafactory-sharegpt-kto",
    "axolotl-chat",
    "axolotl-input-output",
    "axolotl-preference",
    "bespoke-stratos",
    "openrlhf",
    "verl-sft",
    "prime-rl",
    "nemo-rl-sft",
    "verl-rl",
    "trl-grpo",
    "openrlhf-rl",
    "nemo-rl-grpo",
    "verifiers",
    "hf-datasets",
    "rows",
]
"""As `--format` takes them; the object of each is in registry.py."""

SftFormat = Literal[
    "trl-messages",
    "trl-prompt-completion",
    "trl-prompt-completion-text",
    "llamafactory-alpaca",
    "llamafactory-sharegpt",
    "axolotl-chat",
    "axolotl-input-output",
    "bespoke-stratos",
    "openrlhf",
    "verl-sft",
    "prime-rl",
    "nemo-rl-sft",
]
RlFormat = Literal["verl-rl", "trl-grpo", "openrlhf-rl", "nemo-rl-grpo", "verifiers"]
"""Those that a cold start has of either kind."""

ExportName = Literal[FormatName, "cold-start"]
"""A format, or what is made of two (cold_start.py)."""

FileType = Literal["parquet", "jsonl"]

ProblemColumn = Literal["problem_id", "answer", "license"]
"""What all explanations of a problem share."""
RowColumn = Literal[
    "id",
    "sample",
    "reward",
    "rss",
    "rkl",
    "gain",
    "step_credit",
    "leak",
    "repetition",
    "tokens",
    "verified",
    "teacher",
    "teacher_digest",
    "seed",
    "temperature",
    "student",
]
"""What is one explanation's own."""
OriginColumn = Literal[ProblemColumn, RowColumn, "none"]
"""As `--columns` takes them."""
