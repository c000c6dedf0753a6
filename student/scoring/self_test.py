"""Whether a student elsewhere is the student here: both read the same fixed texts, and their numbers are compared.

    d = mean over the tokens of | log p_there - log p_here |

Another student, other weights, another temperature, quantisation or a prompt that is cut all move d; the rounding of
16-bit weights and of another device's sums moves it little. Measured, LOG.md. Left out: texts of thousands of tokens,
so that what an engine does only there (scaled positions, windows) is not seen.
"""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from transformers import AutoConfig, PreTrainedTokenizerBase

from student.configs import ModelSettings, ScoringSettings
from student.errors import ModelError
from student.models import load_pair
from student.reading import Passage, StudentFormat
from student.scoring.protocol import PassageLogps
from student.scoring.scorer import Scorer
from student.tags import STYLES

TEXTS = (
    (
        "A train covers 184 km in 2 hours and 18 minutes. What is its average speed in km/h?",
        "2 hours 18 minutes are 2 + 18/60 = 2.3 hours. Speed is distance over time, so we divide: 184 / 2.3 = 80.",
        "The average speed is \\boxed{80} km/h.",
    ),
    (
        "Solve $x^2 - 5x + 6 = 0$ — and say which root is larger.",
        "Two numbers that add up to 5 and multiply to 6 are 2 and 3:\n\n$$x^2 - 5x + 6 = (x - 2)(x - 3).$$\n\n"
        "A product is zero where a factor is, “x = 2” or “x = 3”.",
        "$x \\in \\{2, 3\\}$; the larger root is $\\boxed{3}$.",
    ),
    (
        "What does `sum(n * n for n in range(4))` give in Python?",
        "for n in range(4):\n    # 0, 1, 2, 3\n    total += n * n\nSo it adds 0 + 1 + 4 + 9. Größe: 14!",
        "14",
    ),
)
"""Question, explanation and solution."""
TOLERANCES = {torch.float32: 1e-3}
"""Nats a token, where the settings leave it open; see LOG.md for what was measured."""
TOLERANCE_OF_16_BITS = 0.05


@dataclass(frozen=True)
class SelfTest:
    """What a student makes of the fixed texts at `temperature`, and by how much another may differ."""

    passages: Sequence[Passage]
    expected: Sequence[PassageLogps]
    untempered: Sequence[PassageLogps]
    """The same at temperature 1, to recognise a server whose weights were not folded."""
    temperature: float
    tolerance: float

    @classmethod
    def of(
        cls, scorer: Scorer, tokenizer: PreTrainedTokenizerBase, temperature: float, tolerance: float | None
    ) -> Self:
        """Of a student in this process."""
        passages = fixed_passages(tokenizer)
        expected = scorer.logps(passages, temperature)
        return cls(
            passages,
            expected,
            expected if temperature == 1 else scorer.logps(passages, 1.0),
            temperature,
            tolerance or TOLERANCES.get(scorer.model.dtype, TOLERANCE_OF_16_BITS),
        )

    def judge(self, seen: Sequence[PassageLogps], who: str) -> float:
        """d, nats a token; raises ModelError, which names `who`, where the numbers are not the student's."""
        mean, worst = difference(seen, self.expected)
        if mean <= self.tolerance:
            return mean
        found = (
            f"vLLM at {who} does not read as the student does at temperature {self.temperature:g}: log-probabilities "
            f"differ by {mean:.2g} nats a token (one by {worst:.2g}; tolerance {self.tolerance:g})"
        )
        if difference(seen, self.untempered)[0] <= self.tolerance:
            raise ModelError(
                f"scoring.urls: {found}; it holds the student at temperature 1: let it serve the copy that "
                f"`python -m student.scoring.temperature STUDENT {self.temperature:g} OUT` makes"
            )
        raise ModelError(
            f"scoring.urls: {found}; let it serve this student (at another temperature than 1: the folded copy), "
            "or raise scoring.tolerance for a lower precision"
        )


def fixed_passages(tokenizer: PreTrainedTokenizerBase) -> list[Passage]:
    """The fixed texts as a student with this tokenizer reads them."""
    layout = StudentFormat(tokenizer, STYLES["rlt"])
    return [layout.read(question, layout.encode(text), solution) for question, text, solution in TEXTS]


def difference(some: Sequence[PassageLogps], others: Sequence[PassageLogps]) -> tuple[float, float]:
    """Mean and largest absolute difference of a token's log-probability, nats; NaN where one is not finite.

    >>> one = PassageLogps(torch.tensor([-1.0, -2.0]), torch.tensor([-3.0]))
    >>> other = PassageLogps(torch.tensor([-1.0, -2.5]), torch.tensor([-4.0]))
    >>> difference([one], [other])
    (0.5, 1.0)
    """
    gaps_N = (_flat(some) - _flat(others)).abs()
    return gaps_N.mean().item(), gaps_N.max().item()


def _flat(logps: Sequence[PassageLogps]) -> Tensor:
    return torch.cat([part for each in logps for part in (each.explanation_E, each.solution_S)]).double()


def read_here(student: str, settings: ModelSettings, scoring: ScoringSettings, temperature: float) -> SelfTest:
    """The test for a student by folder or hub name, which is loaded on the CPU and freed again.

    In the precision of its weights unless the settings name one: a student of 32 B parameters takes 64 GB meanwhile.
    Raises ModelError where it cannot be loaded.
    """
    model, tokenizer = load_pair(student, on_cpu(student, settings))
    test = SelfTest.of(Scorer(model, scoring), tokenizer, temperature, scoring.tolerance)
    del model
    gc.collect()  # modules hold on to one another
    return test


def on_cpu(student: str, settings: ModelSettings) -> ModelSettings:
    """Settings that load the student on the CPU in the precision of its weights, or in the one that is set."""
    try:
        own = str(getattr(AutoConfig.from_pretrained(student), "dtype", None)).removeprefix("torch.")
    except (OSError, ValueError):  # loading it says why
        own = ""
    known = own if own in ("bfloat16", "float16") else "float32"
    dtype = known if settings.dtype == "auto" else settings.dtype
    return ModelSettings.model_validate({"device": "cpu", "dtype": dtype, "threads": settings.threads})
