"""The scorer on one GPU against the reference algorithm: seconds, memory, share of the matrix rate, rewards compared.

    python benchmarks/gpu_score.py                          # Qwen2.5-7B's shape, random weights made on the GPU, bf16
    python benchmarks/gpu_score.py --dtype float16 --repeats 3 --json figures.json --profile
    python benchmarks/gpu_score.py --device cpu --tiny      # the same steps at toy size: what the tests run

It prints four tables: 16 problems x 16 explanations of 3,000 and of 225 tokens, one explanation of each length up to
16k, attention and head by themselves with every way to compute them that we have, and the rewards' differences.

The reference here is the algorithm of reference_algorithm.py from the tokens on (that one, made for a CPU, renders and
tokenises text; leaving that out favours the reference): one explanation at a time, the student's and the teacher's
forward, all logits divided by the temperature and through log-softmax in the model's precision, and a garbage
collection with an emptied cache after each, or not. Seconds are the GPU's, by CUDA events; memory is what was allocated
at most above the weights. Left out: real weights, several GPUs, any figure that was not measured in the run at hand.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel, Qwen2Config

from student.configs import RewardConfig, ScoringSettings
from student.reading import Passage, assemble
from student.rewards import sampled_kl, score_explanation
from student.scoring.attention import dense_attention, split_attention
from student.scoring.flex import BLOCK, flex_attention
from student.scoring.kernels import Projection, chosen_logps
from student.scoring.plan import Pack, packs
from student.scoring.scorer import PassageLogps, Scorer, logps_and_exact_kl

R = TypeVar("R")
REWARD = RewardConfig()
QWEN_7B = {
    "vocab_size": 152_064,
    "hidden_size": 3584,
    "intermediate_size": 18_944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 32_768,
    "tie_word_embeddings": False,
}
TINY = QWEN_7B | {
    "vocab_size": 503,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


@dataclass(frozen=True)
class Sample:
    """One explanation, as the student reads it and as the teacher wrote it."""

    student: Passage
    teacher: Passage


@dataclass(frozen=True)
class Figure:
    """One row of a table."""

    what: str
    seconds_per_explanation: float
    gib_above_weights: float
    """0 on a CPU, which is not asked."""
    times_the_reference: float | None = None
    """How many times fewer seconds than the reference with garbage collection and emptied cache."""
    times_without_collection: float | None = None
    """The same, of the reference without them."""
    share_of_matrix_rate: float | None = None


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """All figures, which are printed too."""
    options = parser().parse_args(arguments)
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    torch.manual_seed(0)
    shape, sizes, lengths = (
        (TINY, [(2, 3, 60), (2, 3, 8)], [64, 200])
        if options.tiny
        else (QWEN_7B, [(16, 16, 3000), (16, 16, 225)], [1024, 4096, 16_000])
    )
    student, teacher = (Scorer(random_model(shape, device, dtype), ScoringSettings()) for _ in range(2))
    rate = matrix_rate(device, dtype, 256 if options.tiny else 8192)
    report: dict[str, Any] = {"machine": machine(device), "dtype": options.dtype, "matrix_tflops": rate / 1e12}
    print(f"{report['machine']}; {options.dtype} products at {rate / 1e12:.3g} TFLOP/s")
    for problems, group, tokens in sizes:
        samples = list(workload(problems, group, tokens, shape["vocab_size"]))
        title = f"{problems} x {group} explanations of {tokens} tokens"
        figures, agreement = compare(student, teacher, samples, rate, options.repeats, options.reference_samples)
        show(title, figures)
        print(f"rewards differ from the reference's by at most {agreement:.2g} (its log-softmax in fp32)")
        report[title] = {"figures": [asdict(figure) for figure in figures], "reward_difference": agreement}
    report["lengths"] = [asdict(figure) for figure in by_length(student, lengths, shape["vocab_size"])]
    show("one explanation, student's pass alone", [Figure(**row) for row in report["lengths"]])
    report["parts"] = parts(student, sizes[0], shape)
    for part in report["parts"]:
        print(f"{part['what']:<60} {part['milliseconds']:>10.3f} ms {part['gib']:>8.3f} GiB  error {part['error']:.2g}")
    if options.profile:
        profile(student, workload(*sizes[0], shape["vocab_size"]))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return report


def parser() -> argparse.ArgumentParser:
    """The settings of this script."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    made.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    made.add_argument("--tiny", action="store_true", help="toy size")
    made.add_argument("--repeats", type=int, default=3, help="medians of so many runs, interleaved")
    made.add_argument("--reference-samples", type=int, default=32, help="explanations that the reference scores a run")
    made.add_argument("--json", type=Path, help="where to write the figures")
    made.add_argument("--profile", action="store_true", help="the operators that take longest, too")
    return made


def random_model(shape: dict[str, Any], device: torch.device, dtype: torch.dtype) -> PreTrainedModel:
    """A Qwen2 whose weights are drawn where it will run."""
    with torch.device(device):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(Qwen2Config(**shape), dtype=dtype)
    model.eval()
    return model


def workload(problems: int, group: int, tokens: int, vocabulary: int) -> Iterator[Sample]:
    """Random ids: questions and solutions of some hundred tokens, explanations of `tokens` less up to a tenth."""
    asked, solved = max(4, min(200, tokens)), max(4, min(300, tokens))
    for _ in range(problems):
        question, solution = (draw(length, vocabulary) for length in (asked, solved))
        for _ in range(group):
            explanation = draw(tokens - int(torch.randint(0, tokens // 10 + 1, ())), vocabulary)
            yield Sample(
                assemble(question, explanation, [1, 2], solution),
                assemble([*question, *solution], explanation, [], []),
            )


def draw(length: int, vocabulary: int) -> list[int]:
    """Random token ids."""
    return torch.randint(3, vocabulary, (length,)).tolist()


def compare(
    student: Scorer, teacher: Scorer, samples: Sequence[Sample], rate: float, repeats: int, reference_samples: int
) -> tuple[list[Figure], float]:
    """Ours and the reference, one after another in each repeat, and the largest difference of their rewards."""
    some = samples[:: max(1, len(samples) // reference_samples)]
    known = [logps.explanation_E for logps in teacher.logps([sample.teacher for sample in samples], REWARD.temperature)]
    runs: dict[str, tuple[int, Callable[[], list[float]]]] = {
        "reference, collection and emptied cache": (len(some), partial(reference, student, teacher, some, True)),
        "reference, neither": (len(some), partial(reference, student, teacher, some, False)),
        "ours, teacher's log-probs known": (len(samples), partial(ours, student, samples, known)),
        "ours, teacher's forward too": (len(samples), partial(ours_with_teacher, student, teacher, samples)),
        "ours, exact KL": (len(samples), partial(ours_exactly, student, teacher, samples)),
    }
    work = {
        "ours, teacher's log-probs known": operations(student, [sample.student for sample in samples]),
        "ours, teacher's forward too": operations(student, [sample.student for sample in samples])
        + operations(teacher, [sample.teacher for sample in samples]),
    }
    work["ours, exact KL"] = work["ours, teacher's forward too"]
    for _, run in runs.values():  # kernels are compiled, and memory is got from the device, before anything is timed
        run()
    taken: dict[str, list[tuple[float, float]]] = {what: [] for what in runs}
    for _ in range(repeats):
        for what, (count, run) in runs.items():
            seconds, gib, _rewards = timed(student.model.device, run)
            taken[what].append((seconds / count, gib))
    median = {what: statistics.median(seconds for seconds, _ in rows) for what, rows in taken.items()}
    with_collection, without = list(median.values())[:2]
    figures = [
        Figure(
            what,
            seconds,
            max(gib for _, gib in taken[what]),
            with_collection / seconds,
            without / seconds,
            work[what] / len(samples) / seconds / rate if what in work else None,
        )
        for what, seconds in median.items()
    ]
    theirs = reference(student, teacher, some, False, precise=True)
    ours_too = ours_with_teacher(student, teacher, some)
    return figures, max(abs(one - other) for one, other in zip(theirs, ours_too, strict=True))


@torch.no_grad()
def reference(
    student: Scorer, teacher: Scorer, samples: Sequence[Sample], collect: bool, precise: bool = False
) -> list[float]:
    """The reward of each explanation, by the reference's steps; `precise` takes its log-softmax in fp32."""
    rewards = []
    for sample in samples:
        seen = reference_logps(student.model, sample.student, precise)
        written = reference_logps(teacher.model, sample.teacher, precise)
        rewards.append(reward(seen, written.explanation_E))
        if collect:
            gc.collect()
            if student.model.device.type == "cuda":
                torch.cuda.empty_cache()
    return rewards


def reference_logps(model: PreTrainedModel, passage: Passage, precise: bool) -> PassageLogps:
    """By way of all logits."""
    ids_T = torch.tensor(passage.input_ids, device=model.device)
    logits_TV = model(input_ids=ids_T[None], use_cache=False).logits[0, :-1]
    logps_TV = ((logits_TV.float() if precise else logits_TV) / REWARD.temperature).log_softmax(-1)
    logps_T = logps_TV.gather(1, ids_T[1:, None]).squeeze(1).float().cpu()
    return PassageLogps(*(logps_T[span.start - 1 : span.stop - 1] for span in (passage.explanation, passage.solution)))


def ours(student: Scorer, samples: Sequence[Sample], teacher_logps: Sequence[Tensor]) -> list[float]:
    """The reward of each explanation, the teacher's log-probabilities being known."""
    seen = student.logps([sample.student for sample in samples], REWARD.temperature)
    return [reward(logps, theirs_E) for logps, theirs_E in zip(seen, teacher_logps, strict=True)]


def ours_with_teacher(student: Scorer, teacher: Scorer, samples: Sequence[Sample]) -> list[float]:
    """The same, the teacher's being computed."""
    written = teacher.logps([sample.teacher for sample in samples], REWARD.temperature)
    return ours(student, samples, [logps.explanation_E for logps in written])


def ours_exactly(student: Scorer, teacher: Scorer, samples: Sequence[Sample]) -> list[float]:
    """The same, by the exact KL."""
    read = logps_and_exact_kl(
        teacher,
        [sample.teacher for sample in samples],
        student,
        [sample.student for sample in samples],
        REWARD.temperature,
    )
    return [score_explanation(logps.solution_S, kl_E, REWARD).reward for logps, kl_E in read]


def reward(student: PassageLogps, teacher_E: Tensor) -> float:
    """By the formula that both sides share."""
    kl_E = sampled_kl(teacher_E, student.explanation_E)
    return score_explanation(student.solution_S, kl_E, REWARD).reward


def by_length(student: Scorer, lengths: Sequence[int], vocabulary: int) -> Iterator[Figure]:
    """Seconds and memory of one explanation of each length, a problem of its own."""
    for tokens in lengths:
        passage = assemble(draw(20, vocabulary), draw(tokens, vocabulary), [1], draw(20, vocabulary))
        run = partial(student.logps, [passage], REWARD.temperature)
        run()
        seconds, gib, _logps = timed(student.model.device, run)
        yield Figure(f"{tokens} tokens", seconds, gib)


def parts(student: Scorer, size: tuple[int, int, int], shape: dict[str, Any]) -> list[dict[str, Any]]:
    """Attention of one layer over one pack, and the head over its positions, by every way there is."""
    made = packs([sample.student for sample in workload(*size, shape["vocab_size"])], student.tokens_per_batch)
    return [*attention_parts(student, made[0], shape), *head_parts(student, shape)]


@torch.no_grad()
def attention_parts(student: Scorer, pack: Pack, shape: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each way to attend inside a pack; the error is against split_attention in fp32."""
    device, dtype = student.model.device, student.model.dtype
    tokens = -(-len(pack.ids) // BLOCK) * BLOCK
    head_size = shape["hidden_size"] // shape["num_attention_heads"]
    heads = [shape["num_attention_heads"], *[shape["num_key_value_heads"]] * 2]
    query, key, value = (torch.randn(1, count, tokens, head_size, device=device).to(dtype) for count in heads)
    exact = split_attention(query.float(), key.float(), value.float(), pack, None)[:, :, : len(pack.ids)]
    for attend in (flex_attention, split_attention, dense_attention):
        yield part(
            f"attention of one layer, {len(pack.ids)} tokens: {attend.__name__}",
            device,
            partial(attend, query, key, value, pack, None),
            lambda result: float((result[:, :, : len(pack.ids)].float() - exact).abs().max()),
        )


@torch.no_grad()
def head_parts(student: Scorer, shape: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Each way to the log-probabilities of chosen tokens; the error is against float64, on the first positions."""
    from trl.kernels.chunked_logprob import ChunkedLogProbFunction

    head, device = student.head, student.model.device
    weight_VH = student.model.get_output_embeddings().weight
    positions = 8192 if device.type == "cuda" else 64
    hidden_NH = torch.randn(positions, shape["hidden_size"], device=device).to(student.model.dtype)
    targets_N = torch.randint(0, len(weight_VH), (positions,), device=device)
    temperature, first = REWARD.temperature, slice(0, 64)
    z_NV = hidden_NH[first].double() @ weight_VH.double().T / temperature
    exact_N = z_NV.gather(1, targets_N[first, None])[:, 0] - z_NV.logsumexp(-1)
    del z_NV
    rows = student.settings.head_rows
    ways: dict[str, Callable[[], Tensor]] = {
        "plain torch, by tiles": lambda: torch.cat(
            [
                head.target_logits(states, targets, temperature) - head.log_sum_exp(states, temperature)
                for states, targets in zip(hidden_NH.split(rows), targets_N.split(rows), strict=True)
            ]
        ),
        "TRL's kernel on fp32 tiles": lambda: chosen_logps(hidden_NH, targets_N, Projection(weight_VH), temperature),
        "TRL's ChunkedLogProbFunction": lambda: ChunkedLogProbFunction.apply(
            hidden_NH, weight_VH, None, targets_N, temperature, 32_768, None, 1.0, ()
        )[0],
    }
    for name, way in ways.items():
        yield part(
            f"head, {positions} positions: {name}",
            device,
            way,
            lambda result: float((result[first].double() - exact_N).abs().max()),
        )


def part(what: str, device: torch.device, run: Callable[[], R], error: Callable[[R], float]) -> dict[str, Any]:
    """The median of five runs; a way that fails here is reported, not raised."""
    try:
        run()
        taken = [timed(device, run) for _ in range(5)]
    except (RuntimeError, ValueError) as failure:
        reason = str(failure).strip().partition("\n")[0]
        return {"what": f"{what}: {reason}", "milliseconds": float("nan"), "gib": float("nan"), "error": float("nan")}
    seconds = statistics.median(seconds for seconds, _, _ in taken)
    return {"what": what, "milliseconds": 1e3 * seconds, "gib": taken[0][1], "error": error(taken[0][2])}


def timed(device: torch.device, run: Callable[[], R]) -> tuple[float, float, R]:
    """Seconds, GiB allocated at most above what was before, and the result."""
    if device.type != "cuda":
        begun = time.perf_counter()
        result = run()
        return time.perf_counter() - begun, 0.0, result
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    result = run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3, (torch.cuda.max_memory_allocated() - before) / 2**30, result


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOP/s of a square product in that precision: the best of ten rounds."""
    one, other = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    rounds = [timed(device, lambda: [one @ other for _ in range(5)])[0] for _ in range(11)][1:]
    return 10.0 * size * size * size / min(rounds)


def operations(scorer: Scorer, passages: Sequence[Passage]) -> float:
    """FLOP that these passages take when what they share is read once: layers, attention, and the head where scored."""
    config = scorer.model.config
    weights = sum(
        weight.numel() for name, weight in scorer.model.named_parameters() if weight.dim() == 2 and "layers" in name
    )
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    made = packs(passages, scorer.tokens_per_batch)
    tokens = sum(len(pack.ids) for pack in made)
    scored = sum(len(passage.explanation) + len(passage.solution) for passage in passages)
    pairs = sum(seen_pairs(pack) for pack in made)
    head = config.hidden_size * config.vocab_size * scored
    return 2.0 * float(weights * tokens + 2 * width * config.num_hidden_layers * pairs + head)


def seen_pairs(pack: Pack) -> int:
    """How many (query, key) pairs of a pack are seen."""
    total = 0
    for group in pack.groups:
        lengths = [len(member.tokens) for member in group.members]
        total += triangle(len(group.prefix)) + sum(triangle(n) + n * len(group.prefix) for n in lengths)
    return total


def triangle(tokens: int) -> int:
    """Pairs of tokens of which one is not after the other, itself included."""
    return tokens * (tokens + 1) // 2


def machine(device: torch.device) -> str:
    """What this ran on."""
    name = torch.cuda.get_device_name() if device.type == "cuda" else "a CPU (toy size: no figure of a GPU)"
    return f"{name}, torch {torch.__version__}"


def show(title: str, figures: Sequence[Figure]) -> None:
    """A table in Markdown."""
    print(f"\n{title}\n\n| | s/explanation | GiB above weights | x reference | x without collection | of matrix rate |")
    print("|---|---|---|---|---|---|")
    for figure in figures:
        cells = [f"{figure.seconds_per_explanation:.4g}", f"{figure.gib_above_weights:.3g}"]
        for ratio in (figure.times_the_reference, figure.times_without_collection, figure.share_of_matrix_rate):
            cells.append("" if ratio is None else f"{ratio:.3g}")
        print(f"| {figure.what} | {' | '.join(cells)} |")


def profile(student: Scorer, samples: Iterator[Sample]) -> None:
    """The operators that take longest in one call of the scorer."""
    passages = [sample.student for sample in samples]
    activities = [torch.profiler.ProfilerActivity.CPU]
    if student.model.device.type == "cuda":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        student.logps(passages, REWARD.temperature)
    order = "self_cuda_time_total" if len(activities) == 2 else "self_cpu_time_total"
    print(profiler.key_averages().table(sort_by=order, row_limit=15, max_name_column_width=60))


if __name__ == "__main__":
    main()
