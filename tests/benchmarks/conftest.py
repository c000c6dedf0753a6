"""A recipe of the toy world so small that a whole comparison takes seconds, and teaches next to nothing."""

import re
from pathlib import Path

import pytest

LIMITS = {"2560": 1280, "8000": 160, "800": 8, "1024": 24, "2000": 10}
"""Problems of the recipe's tables, and how many the small one has."""


@pytest.fixture
def small_recipe(tmp_path: Path) -> Path:
    """The toy recipe with few problems and one step of RL."""
    text = Path("teacher/recipes/toy.toml").read_text(encoding="utf-8")
    text = re.sub(r"^limit = (\d+)", lambda found: f"limit = {LIMITS[found[1]]}", text, flags=re.MULTILINE)
    text = text.replace("steps = 100, prompts_per_step = 8, group_size = 16, rows_per_device = 128", SMALL_RL)
    assert SMALL_RL in text
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


SMALL_RL = "steps = 1, prompts_per_step = 2, group_size = 2, rows_per_device = 4"
