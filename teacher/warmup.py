"""`rlt warmup`: a model learns the explanation format by SFT on existing reasoning traces.

    teacher chat, solution given | explanation_open || trace | explanation_close | eos        loss right of || only
    student chat                 || thought | solution | eos

The first is the paper's warm-up (method.md 2 and 4). The second, formats = "student" or "both", is for models from
scratch, which must also become the student that rewards and is distilled.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from student import processes
from student.configs import SftConfig
from student.errors import ProblemError, ScoringError
from student.models import load_pair
from student.problem_files import read_problems
from student.problems import Problem
from student.reading import StudentFormat
from student.run_folder import begin, finish, is_finished
from student.sft import SftReport, TokenRow, train_sft
from student.tags import STYLES, Tags
from teacher.configs import WarmupConfig
from teacher.prompts import TeacherFormat

TITLE = "warm-up"
"""What the progress bar is called."""
Formats = Literal["teacher", "student", "both"]


def main(config: WarmupConfig) -> None:
    """Carries out `rlt warmup`; raises RltError where something must be mended first."""
    out = Path(config.out)
    if is_finished(out, config):
        return
    tags = STYLES[config.tags]
    problems = read_problems(config, tags, out.with_name(out.name + ".skipped.jsonl"))
    traced = with_traces(problems, skip_others=config.skip_invalid)
    model, tokenizer = load_pair(config.model, config, to_train=True)
    rows = warmup_rows(traced, tokenizer, tags, config.formats)
    begin(out, config)
    report = train_sft(model, tokenizer, rows, out, config.sft, title=TITLE)
    finish(out, asdict(report) | {"problems": len(problems), "without_trace": len(problems) - len(traced)})


def warm_up(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    problems: Sequence[Problem],
    out: Path,
    sft: SftConfig,
    *,
    tags: Tags,
    formats: Formats = "teacher",
) -> SftReport:
    """Trains `model` in place on the traces of `problems`, all of which have one, and saves it as the folder `out`."""
    return train_sft(model, tokenizer, warmup_rows(problems, tokenizer, tags, formats), out, sft, title=TITLE)


def with_traces(problems: Sequence[Problem], *, skip_others: bool) -> list[Problem]:
    """The problems that have a reasoning trace; raises ProblemError where others are there and not to be skipped."""
    traced = [problem for problem in problems if problem.reasoning_trace]
    lacking = [problem for problem in problems if not problem.reasoning_trace]
    if lacking and not (skip_others and traced):
        first = lacking[0]
        remedy = "leave them out with skip_invalid" if traced else "name their column with columns.reasoning_trace"
        raise ProblemError(
            f"{len(lacking)} of {len(problems)} problems have no reasoning_trace to warm up on "
            f"(first: {first.id}, {first.question[:60]!r}); {remedy}"
        )
    return traced


def warmup_rows(
    problems: Sequence[Problem], tokenizer: PreTrainedTokenizerBase, tags: Tags, formats: Formats
) -> list[TokenRow]:
    """One row a problem and format; a problem with a control token of the model in a text is left out, and named."""
    teacher_format, student_format = TeacherFormat(tokenizer, tags), StudentFormat(tokenizer, tags)
    rows = []
    for problem in problems:
        try:
            both = problem_rows(problem, teacher_format, student_format)
        except ScoringError as error:
            processes.tell(f"problem {problem.id} left out: {error}")
            continue
        rows += [row for form, row in both.items() if formats in (form, "both")]
    return rows


def problem_rows(
    problem: Problem, teacher_format: TeacherFormat, student_format: StudentFormat
) -> dict[Formats, TokenRow]:
    """The problem's trace as the teacher writes it and as the student does; raises ScoringError on control tokens."""
    assert problem.reasoning_trace, "problems without a trace were left out before"
    trace_ids = student_format.encode(problem.reasoning_trace)
    taught = teacher_format.completion_ids(trace_ids)
    studied = student_format.completion_ids(trace_ids, problem.solution)
    return {
        "teacher": TokenRow(teacher_format.prompt_ids(problem.question, problem.solution), taught),
        "student": TokenRow(student_format.prompt_ids(problem.question), studied),
    }
