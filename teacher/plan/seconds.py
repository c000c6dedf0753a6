"""Seconds of one optimizer step, by phase, of a case that fits.

P parameters, C explanations a step of e tokens in the mean after prompts of p, n GPUs that train; F and W the FLOP and
bytes a second of a card, each times the share of it that is assumed to be reached:

    generate            C/B rounds of e decoding steps with B rows at once, then E - e steps for the longest;
                        a step reads 2 P + B (p + e/2) kv bytes, or computes 2 P B FLOP, whichever takes longer
    score               the student reads C (p + e) tokens: 2 P_s FLOP a token, and attention
    policy log-probs    the teacher reads them once more, and the reference once, where grpo.beta > 0
    loss                3 such passes, 4 with gradient checkpointing; one less with an adapter
    optimizer           28 P/d bytes through memory
    weights to vLLM     2 P bytes through one link

B is what the cache holds. Divided among several GPUs, a forward pass gathers 2 P bytes and a backward pass 2 P and
sends 4 P, of every r rows; that goes on beside the computing, so a phase takes the longer of the two. Phases do not
overlap (on servers the student does read ahead).
"""

from teacher.plan.cases import Case
from teacher.plan.memory import cache_bytes, engine_gpus

LINK_SHARE = 0.6
"""Share of a link's rate that is assumed to be reached."""


def step_seconds(case: Case) -> dict[str, float]:
    """Seconds by phase."""
    tokens = case.completions * _row(case)
    student = case.student.forward_flops(tokens, _row(case))
    readers = case.reading or case.training
    forward = _pass_seconds(case, case.rates.reading, forwards=1, gathered=2)
    seconds = {
        "generate": _generating(case),
        "score": student / (readers * case.card.flops * case.rates.reading),
        "policy log-probs": forward,
        "reference log-probs": forward if case.config.grpo.beta > 0 else 0.0,
        "loss": _pass_seconds(case, case.rates.training, forwards=_forwards_of_the_loss(case), gathered=8),
        "optimizer": 28 * case.trained / case.parts / (case.card.bandwidth * case.rates.decoding),
        "weights to vLLM": 2 * case.teacher.parameters / _link(case, engine_gpus(case) + case.training),
    }
    return {phase: taken for phase, taken in seconds.items() if taken}


def _forwards_of_the_loss(case: Case) -> int:
    """As how many forwards the loss and its gradient compute: no gradient of the weights beside an adapter."""
    return (3 if case.config.lora is None else 2) + case.config.grpo.gradient_checkpointing


def _row(case: Case) -> float:
    return case.lengths.prompt + case.lengths.explanation


def _pass_seconds(case: Case, share: float, *, forwards: int, gathered: int) -> float:
    """A pass over all rows that computes like so many forwards and, divided, moves so many bytes a parameter."""
    flops = forwards * case.teacher.forward_flops(case.completions * _row(case), _row(case))
    computing = flops / (case.training * case.card.flops * share)
    if case.parts == 1:
        return computing
    passes = case.completions / (case.config.grpo.rows_per_device * case.training)
    return max(computing, passes * gathered * case.teacher.parameters / _link(case, case.training))


def _link(case: Case, gpus: int) -> float:
    """Bytes a second between GPUs, by the slowest link among so many."""
    return LINK_SHARE * (case.card.link if gpus <= case.per_machine else case.card.network)


def rows_at_once(case: Case) -> float:
    """Rows that an engine decodes together in the mean."""
    engines = 1 if case.sampling else case.training
    held = cache_bytes(case) / (case.teacher.kv_bytes * _row(case))
    return max(1.0, min(case.completions / engines, held))


def _generating(case: Case) -> float:
    engines = 1 if case.sampling else case.training
    rows, mean = rows_at_once(case), case.lengths.explanation
    rounds = case.completions / engines / rows
    longest = max(0, case.config.rollout.max_tokens - mean)
    return rounds * mean * _decoding_step(case, rows) + longest * _decoding_step(case, 1.0)


def _decoding_step(case: Case, rows: float) -> float:
    shape, gpus = case.teacher, engine_gpus(case)
    seen = case.lengths.prompt + case.lengths.explanation / 2
    reading = (2 * shape.parameters + rows * seen * shape.kv_bytes) / (gpus * case.card.bandwidth * case.rates.decoding)
    computing = rows * shape.forward_flops(1, 2 * seen) / (gpus * case.card.flops * case.rates.reading)
    return max(reading, computing)
