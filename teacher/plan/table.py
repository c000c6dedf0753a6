"""The table of docs/scale.md: `python -m teacher.plan.table` prints it; a test holds the page to it."""

from teacher.configs import PlanConfig
from teacher.plan.cases import Case
from teacher.plan.memory import obstacles, training_memory
from teacher.plan.plan import case_of, recipe_settings
from teacher.plan.remedies import remedies
from teacher.plan.seconds import step_seconds

_HEAD = (
    "| model | GPUs | sample, train | GB a GPU that trains | seconds: generate, score, log-probs, loss; a step | |\n"
    "|---|---|---|---|---|---|"
)


def table() -> str:
    """1.5B, 7B and 32B on 1, 8 and 64 GPUs by the paper's recipe, vLLM in the process and on its own."""
    rows = [_row(case) for case in _cases()]
    return "\n".join([_HEAD, *rows]) + "\n"


def _cases() -> list[Case]:
    plans = [PlanConfig(recipe="rlt-7b", model=model) for model in ("1.5B", "7B", "32B")]
    engines = [(1, "vllm"), (8, "vllm"), (8, "vllm-server"), (64, "vllm"), (64, "vllm-server")]
    return [
        case_of(plan.model_copy(update={"engine": engine}), recipe_settings(plan), gpus)
        for plan in plans
        for gpus, engine in engines
    ]


def _row(case: Case) -> str:
    roles = f"{case.sampling}, {case.training}" if case.sampling else f"all {case.training} do both"
    memory = f"{sum(training_memory(case).values()) / 1e9:.0f}"
    name = case.teacher.name.rpartition("-")[2]
    if obstacles(case):
        found = remedies(case)
        return f"| {name} | {case.gpus} | {roles} | **{memory}** | - | {_told(found)} |"
    seconds = step_seconds(case)
    logps = seconds["policy log-probs"] + seconds.get("reference log-probs", 0.0)
    phases = [seconds["generate"], seconds["score"], logps, seconds["loss"]]
    shown = ", ".join(f"{taken:.0f}" for taken in phases)
    return f"| {name} | {case.gpus} | {roles} | {memory} | {shown}; **{sum(seconds.values()):.0f}** | fits |"


def _told(found: list[str]) -> str:
    return f"fits with `{found[0]}`" if found else "no change that it knows suffices"


if __name__ == "__main__":
    print(table(), end="")
