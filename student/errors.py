"""Every error that a person can mend, as one tree. The `rlt` command prints them as one line, without a traceback.

RltError
├── ConfigError     a setting, a TOML file or a command line
├── ProblemError    a file of problems or traces, or rows of it
├── ModelError      a model or tokenizer that cannot be loaded, or that does not fit its task
├── OutputError     a result that cannot be written, or that belongs to other settings
├── ScoringError    a sequence for which no reward is defined
├── Interrupted     a run that was asked to stop and has saved what it needs to go on (interruption.py)
├── Diverged        a loss or weight that is no longer a finite number (careful_trainer.py)
├── TooFewProblems  not enough problems for one step of RL (grpo.py)
├── ContextTooShort prompt and sample do not fit into the model that is trained by RL (grpo.py)
└── TeacherError    see teacher/errors.py

A message says what is wrong, shows the value seen, and says what to do. A broken invariant of ours is an `assert`, not
one of these.
"""


class RltError(Exception):
    """Something a person can mend; the message is one line and holds the remedy."""


class ConfigError(RltError, ValueError):
    """A setting is unknown, out of range or contradicts another."""


class ProblemError(RltError, ValueError):
    """A file of problems cannot be read, or holds rows that cannot be used."""


class ModelError(RltError, ValueError):
    """A model or tokenizer is missing, unreadable or unfit for what is asked of it."""


class OutputError(RltError):
    """A result cannot be written where it was asked for, or what lies there was made with other settings."""


class ScoringError(RltError, ValueError):
    """No reward is defined for this input, and the caller could have known."""
