"""Bytes in the memory of one GPU, by part, at the worst moment of a step.

P parameters divided into d parts (1: not divided), T tokens of the longest row, r rows at once, L blocks:

    weights, gradients, AdamW's two moments    4 P/d, 4 P/d, 8 P/d     float32
    reference                                  4 P/d                   float32, where grpo.beta > 0
    a pass                                     weights in bfloat16 and activations, whichever pass takes more:
        policy       2 P, or divided: 2 blocks and both ends, 2 bytes each; + activations
        reference    2 P: TRL divides it as one unit, so it is gathered whole; + one block's activations
    activations      r T L a, or with gradient checkpointing r T (2 h L + a)
    a, a token and block    2 (4h + 3q + 3k + 4f) + 8h                 what autograd keeps, two norms in float32
    student          2 P_s and its activations over scoring.tokens_per_batch, where it is not on servers
    logits           one tile of 4,096 positions by 32,768 words in float32, for the loss and for the scorer
    vLLM             rollout.gpu_memory_fraction of the card, where it is in the process

With a LoRA adapter of A parameters: weights 2 P + 4 A, gradients 4 A, moments 8 A; the reference is the model without
it, and a pass needs activations alone, since the weights are in bfloat16 already.

A tenth of the card stays free for CUDA, NCCL and fragments. Attention keeps no scores (sdpa, FlexAttention).
"""

from teacher.plan.cases import Case
from teacher.plan.shapes import Shape

FREE = 0.1
"""Share of a card that is left to CUDA, NCCL and fragments."""
SERVER_SHARE = 0.9
"""Of a sampling GPU's memory what vLLM takes by default."""
TILE = 4.0 * 4096 * 32_768
READ_AT_ONCE = 16_384
"""`scoring.tokens_per_batch` on a GPU, where it is unset."""

Parts = dict[str, float]


def training_memory(case: Case) -> Parts:
    """Bytes by part on a GPU that trains."""
    whole, trained, parts = case.teacher.parameters, case.trained, case.parts
    adapted = case.config.lora is not None
    referenced = case.config.grpo.beta > 0 and not adapted
    memory = {
        "weights": 2 * whole + 4 * trained if adapted else 4 * whole / parts,
        "gradients": 4 * trained / parts,
        "AdamW's moments": 8 * trained / parts,
        "reference": 4 * whole / parts if referenced else 0.0,
        "a pass in bfloat16": max(_policy_pass(case), _reference_pass(case) if referenced else 0.0),
        "logits, a tile each": 2 * TILE if case.reading == 0 else TILE,
        "student": 0.0 if case.reading else student_bytes(case),
        "vLLM: weights, KV cache": 0.0 if case.sampling else case.config.rollout.gpu_memory_fraction * case.card.memory,
    }
    return {part: size for part, size in memory.items() if size}


def student_bytes(case: Case) -> float:
    """The student in a process that trains: bfloat16 weights, and one block's activations of what is read at once."""
    tokens = case.config.scoring.tokens_per_batch or READ_AT_ONCE
    return 2 * case.student.parameters + tokens * kept_by_block(case.student)


def kept_by_block(shape: Shape) -> float:
    """Bytes that autograd keeps of a token in one block."""
    return 2 * (4 * shape.hidden + 3 * shape.queries + 3 * shape.keys + 4 * shape.intermediate) + 8 * shape.hidden


def activations(case: Case) -> float:
    """Bytes that the backward pass of the longest rows needs."""
    shape, tokens = case.teacher, case.config.grpo.rows_per_device * case.longest
    if case.config.grpo.gradient_checkpointing:
        return tokens * (2 * shape.hidden * shape.layers + kept_by_block(shape))
    return tokens * shape.layers * kept_by_block(shape)


def _policy_pass(case: Case) -> float:
    shape = case.teacher
    if case.config.lora is not None:
        return activations(case)
    gathered = 2 * shape.block + shape.ends if case.parts > 1 else shape.parameters
    return 2 * gathered + activations(case)


def _reference_pass(case: Case) -> float:
    tokens = case.config.grpo.rows_per_device * case.longest
    return 2 * case.teacher.parameters + tokens * kept_by_block(case.teacher)


def engine_gpus(case: Case) -> int:
    """GPUs that a vLLM engine is spread over."""
    return case.sampling or 1


def cache_bytes(case: Case) -> float:
    """What an engine has left for keys and values; negative where its weights do not fit."""
    share = SERVER_SHARE if case.sampling else case.config.rollout.gpu_memory_fraction
    return engine_gpus(case) * share * case.card.memory - 2 * case.teacher.parameters


def obstacles(case: Case) -> list[str]:
    """Why the case does not fit, in words; nothing where it does."""
    if case.training == 0:
        return [f"no GPU is left to train: {case.sampling} sample and {case.reading} read"]
    found = []
    memory = training_memory(case)
    needed, room = sum(memory.values()), (1 - FREE) * case.card.memory
    if needed > room:
        largest = sorted(memory, key=lambda part: -memory[part])[:2]
        named = " and ".join(f"{part} {memory[part] / 1e9:.0f}" for part in largest)
        found.append(f"a GPU that trains needs {needed / 1e9:.0f} GB of {room / 1e9:.0f}, most for {named}")
    cache, longest = cache_bytes(case), case.teacher.kv_bytes * case.longest
    if cache < longest:
        found.append(
            f"vLLM has {max(0.0, cache) / 1e9:.1f} GB for keys and values, the longest row {longest / 1e9:.1f}"
        )
    weights, read = 2 * case.student.parameters, case.reading * (1 - FREE) * case.card.memory
    if case.reading and weights > read:
        found.append(f"the student's weights take {weights / 1e9:.0f} GB, its GPUs have {read / 1e9:.0f}")
    return found
