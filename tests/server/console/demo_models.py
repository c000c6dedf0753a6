"""The demo's teacher and student for tests: those that `rlt demo` left here, else small ones by the demo's own code."""

import os
from pathlib import Path

from server.configs import DEMO_MODELS
from student.config import merged
from teacher.demo.chain import Chain
from teacher.demo.phases import Ledger, run_phases
from teacher.demo.settings import HOME, read_recipe

ROOT = Path(__file__).parents[3]
VARIABLE = "RLT_DEMO"
"""Names the folder that `rlt demo` wrote, where that is not `demo` in the checkout."""
FEW = {
    "skill": {"limit": 512},
    "base": {"limit": 768},
    "train": {"limit": 12, "grpo": {"steps": 2, "prompts_per_step": 4, "group_size": 4, "rows_per_device": 16}},
}
"""What is laid over the toy recipe: 16 and 24 steps of warm-up, 2 of RL."""


def demo_folder(empty: Path) -> Path:
    """A folder where `rlt serve` finds the demo's models: its `demo` is the one that was made, or is made small.

    The small one has the demo's world, tokenizer and shapes, and a teacher that ends its explanations; what its
    explanations are worth, no test here may rest on.
    """
    made = Path(os.environ.get(VARIABLE, ROOT / "demo"))
    if (made / DEMO_MODELS.relative_to("demo") / "rlt_teacher" / "config.json").is_file():
        (empty / "demo").symlink_to(made.resolve())
    else:
        _make_small(empty / HOME)
    return empty


def _make_small(folder: Path) -> None:
    folder.mkdir(parents=True)
    toy = read_recipe("toy")
    chain = Chain(toy.model_validate(merged(toy.model_dump(), FEW)).placed(folder, 0), 0)
    run_phases(folder, Ledger(folder), [*chain.base_phases(), chain.train("rlt_teacher")], "small demo")
