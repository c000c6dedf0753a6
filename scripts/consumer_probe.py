"""Loads exports with their consumer's own code and says what it saw; scripts/consumers.py runs it in its venv.

    python consumer_probe.py CONSUMER STUDENT FORMAT=FOLDER ...

prints a line of JSON a format: {"format", "rows", "tokens", "trained", "texts", "rewarded"} or {"format", "error"}.

    rows        of its dataset
    tokens      of all rows, prompts for RL, as it tokenizes them with the student's tokenizer and template
    trained     those that have a label; of a pair both answers', of a process reward model its steps
    texts       what these say, an answer each, without special tokens and white space at the ends
    rewarded    of problems for RL: rows whose own truth is rewarded with 1, and a wrong answer with less

Settings are those of the command in the export's README.md. Nothing of rlt is imported here, and a consumer only within
its own function.
"""

import asyncio
import importlib.util
import json
import os
import shlex
import site
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

IGNORED = -100
WRONG = "a wrong answer"


@dataclass(frozen=True)
class Seen:
    """What a consumer's dataset holds."""

    rows: int
    tokens: int = 0
    trained: int = 0
    texts: tuple[str, ...] = ()
    rewarded: int | None = None


def of_labels(rows: Iterable[tuple[Sequence[int], Sequence[int]]], tokenizer: Any) -> Seen:
    """Counted from each row's ids and labels, where a label is the id itself."""
    pairs = list(rows)
    learned = [[label for label in labels if label != IGNORED] for _, labels in pairs]
    return of_answers(sum(len(ids) for ids, _ in pairs), learned, tokenizer)


def of_answers(tokens: int, learned: Sequence[Sequence[int]], tokenizer: Any) -> Seen:
    """Counted from all tokens, and those that are learned of each row."""
    texts = tuple(tokenizer.decode(list(ids), skip_special_tokens=True).strip() for ids in learned)
    return Seen(len(learned), tokens, sum(map(len, learned)), texts)


def of_problems(prompts: Sequence[str], right: Iterable[float], wrong: Iterable[float], tokenizer: Any) -> Seen:
    """Counted from the prompts, and the rewards of a right and of a wrong response to each."""
    rewarded = sum(good == 1 > bad for good, bad in zip(map(float, right), map(float, wrong), strict=True))
    return Seen(len(prompts), tokens_of(prompts, tokenizer), rewarded=rewarded)


def tokens_of(texts: Sequence[str], tokenizer: Any) -> int:
    """Of all texts together, without special tokens that they do not hold."""
    return sum(map(len, tokenizer(list(texts), add_special_tokens=False)["input_ids"]))


def rendered(conversation: list[dict[str, str]], tokenizer: Any) -> str:
    """A prompt by the student's template."""
    return str(tokenizer.apply_chat_template(conversation, add_generation_prompt=True, tokenize=False))


def said(answer: str) -> str:
    """A response that states an answer as the prompts ask for it."""
    return f"<|begin_of_thought|>\n\nSo it goes.<|end_of_thought|>\n\nIt is $\\boxed{{{answer}}}$."


def tokenizer_of(student: str) -> Any:
    """The student's."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(student)


def command(folder: Path, first: str) -> list[str]:
    """The words of README.md's command after `first`, with which it begins."""
    for line in (folder / "README.md").read_text(encoding="utf-8").splitlines():
        if line.startswith(first):
            return shlex.split(line.removeprefix(first))
    raise LookupError(f"README.md has no command that begins with {first!r}")


def flags_of(words: Iterable[str]) -> dict[str, str]:
    """`--name value ...` as a dictionary; a flag without a value is true."""
    flags, name = {}, ""
    for word in words:
        if word.startswith("--"):
            name, word = word.removeprefix("--"), "true"  # noqa: PLW2901
        flags[name] = word
    return flags


def trl(form: str, folder: Path, student: str) -> Seen:
    """Its trainers' own datasets, of the folder as `trl sft` and its kin load it."""
    import trl.chat_template_utils
    from datasets import load_dataset
    from transformers import AutoModelForCausalLM

    rows, tokenizer = load_dataset(str(folder), split="train"), tokenizer_of(student)
    if form == "trl-grpo":
        return _trl_problems(rows, tokenizer)
    if form == "trl-sdft":
        return Seen(len(rows), tokens_of([rendered(prompt, tokenizer) for prompt in rows["prompt"]], tokenizer))
    trainer_type, config_type, answers = _trl_trainer(form)
    settings = {"output_dir": str(folder / "trained"), "report_to": "none", "use_cpu": True, "bf16": False}
    masked = {"assistant_only_loss": True} if form == "trl-messages" else {}
    if masked:  # the student's own template has no `{% generation %}`; this is ChatML with it
        tokenizer.chat_template = trl.chat_template_utils.qwen2_5_training_chat_template
    trainer = trainer_type(
        model=AutoModelForCausalLM.from_pretrained(student),
        args=config_type(max_length=16384, **settings, **masked),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    made = trainer.train_dataset
    if not answers:
        return of_labels(((row["input_ids"], row["labels"]) for row in made), tokenizer)
    learned = [row[f"{answer}_ids"] for row in made for answer in answers]
    prompts = len(answers) * sum(len(row["prompt_ids"]) for row in made)
    return replace(of_answers(prompts + sum(map(len, learned)), learned, tokenizer), rows=len(made))


def _trl_trainer(form: str) -> tuple[Any, Any, tuple[str, ...]]:
    import trl

    if form == "trl-preference":
        return trl.DPOTrainer, trl.DPOConfig, ("chosen", "rejected")
    if form == "trl-kto":
        return trl.KTOTrainer, trl.KTOConfig, ("completion",)
    return trl.SFTTrainer, trl.SFTConfig, ()


def _trl_problems(rows: Any, tokenizer: Any) -> Seen:
    from trl.rewards import accuracy_reward

    truths = list(rows["solution"])
    right, wrong = (
        accuracy_reward([[{"role": "assistant", "content": text}] for text in texts], truths)
        for texts in (truths, [said(WRONG)] * len(truths))
    )
    return of_problems([rendered(prompt, tokenizer) for prompt in rows["prompt"]], right, wrong, tokenizer)


def trl_prm(form: str, folder: Path, student: str) -> Seen:
    """The trainer of process reward models of an older TRL."""
    from datasets import load_dataset
    from transformers import AutoModelForTokenClassification
    from trl.experimental.prm import PRMConfig, PRMTrainer

    settings = {"output_dir": str(folder / "trained"), "report_to": "none", "use_cpu": True, "bf16": False}
    trainer = PRMTrainer(
        model=AutoModelForTokenClassification.from_pretrained(student, num_labels=2),
        args=PRMConfig(max_length=16384, **settings),
        train_dataset=load_dataset(str(folder), split="train"),
        processing_class=tokenizer_of(student),
    )
    rows = trainer.train_dataset
    return Seen(len(rows), sum(len(row["input_ids"]) for row in rows), _steps(rows))


def _steps(rows: Any) -> int:
    """How many labels of steps there are."""
    return sum(label != IGNORED for row in rows for label in row["labels"])


def datasets(form: str, folder: Path, student: str) -> Seen:
    """The rows alone, for readers of one's own."""
    from datasets import load_dataset, load_from_disk

    return Seen(len(load_from_disk(str(folder)) if form == "hf-datasets" else load_dataset(str(folder), split="train")))


def llamafactory(form: str, folder: Path, student: str) -> Seen:
    """As `llamafactory-cli train` reads its data: arguments, template, get_dataset."""
    from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
    from llamafactory.hparams import get_train_args
    from llamafactory.model import load_tokenizer

    if form == "bespoke-stratos":
        _declare_stratos(folder)
    os.chdir(folder)
    places = {"STUDENT": student, "TEMPLATE": "qwen"}
    words = [places.get(word, word) for word in command(folder, "llamafactory-cli train")]
    sys.argv = ["llamafactory-cli", *words, "--overwrite_cache", "true"]
    model_args, data_args, training_args, finetuning_args, _ = get_train_args()
    modules = load_tokenizer(model_args)
    template = get_template_and_fix_tokenizer(modules["tokenizer"], data_args)
    stage = "rm" if finetuning_args.stage == "dpo" else finetuning_args.stage  # as its train/dpo/workflow.py
    rows = get_dataset(template, model_args, data_args, training_args, stage=stage, **modules)["train_dataset"]
    sides = ("chosen_", "rejected_") if stage == "rm" else ("",)
    seen = of_labels(
        ((row[f"{it}input_ids"], row[f"{it}labels"]) for row in rows for it in sides), modules["tokenizer"]
    )
    return replace(seen, rows=len(rows))


def _declare_stratos(folder: Path) -> None:
    """Puts a command and a declaration beside the data, as SkyThought and open-thoughts declare theirs."""
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "user", "assistant_tag": "assistant"}
    columns = {"messages": "conversations", "system": "system"}
    entry = {"file_name": "data.parquet", "formatting": "sharegpt", "columns": columns, "tags": tags}
    (folder / "dataset_info.json").write_text(json.dumps({"rlt": entry}))
    flags = "--stage sft --do_train true --dataset_dir . --dataset rlt --cutoff_len 16384 --output_dir trained"
    text = f"llamafactory-cli train --model_name_or_path STUDENT --template TEMPLATE {flags}\n"
    (folder / "README.md").write_text(text)


def openrlhf(form: str, folder: Path, student: str) -> Seen:
    """As its train_sft and train_ppo_ray do: blending_datasets, SFTDataset or PromptDataset, the reward function."""
    from openrlhf.datasets import PromptDataset, SFTDataset
    from openrlhf.datasets.utils import blending_datasets

    script = {"openrlhf": "openrlhf.cli.train_sft", "openrlhf-rl": "openrlhf.cli.train_ppo_ray"}[form]
    flags = flags_of(command(folder, f"python -m {script}"))
    os.chdir(folder)
    data = SimpleNamespace(**{name.removeprefix("data."): value for name, value in flags.items()})
    strategy = SimpleNamespace(args=SimpleNamespace(data=data), print=print, is_rank_0=lambda: True)
    tokenizer = tokenizer_of(student)
    if form == "openrlhf":
        rows = SFTDataset(blending_datasets(data.dataset, None, strategy), tokenizer, int(data.max_len), strategy)
        items = [rows[at] for at in range(len(rows))]
        learned = [ids[0, 1:][loss[0, :-1] == 1].tolist() for ids, _, loss in items]  # its mask is on the token before
        return of_answers(sum(ids.numel() for ids, *_ in items), learned, tokenizer)
    problems = PromptDataset(blending_datasets(data.prompt_dataset, None, strategy), tokenizer, strategy)
    _, prompts, labels, _ = problems.collate_fn([problems[at] for at in range(len(problems))])
    reward = _function_of(folder / flags["reward.remote_url"], "reward_func")
    right, wrong = (
        reward([prompt + said(text) for prompt, text in zip(prompts, texts, strict=True)], prompts, labels)["rewards"]
        for texts in (labels, [WRONG] * len(labels))
    )
    return of_problems(prompts, right, wrong, tokenizer)


def _function_of(path: Path, name: str) -> Callable[..., Any]:
    """A function of a file, as OpenRLHF's workers load it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[..., Any] = getattr(module, name)
    return found


def verl(form: str, folder: Path, student: str) -> Seen:
    """With the configuration that hydra makes of the command: its datasets, its reward function."""
    from hydra import compose, initialize_config_module

    os.chdir(folder)
    first, config_name = {
        "verl-sft": ("torchrun --nproc_per_node=1 -m verl.trainer.sft_trainer", "sft_trainer_engine"),
        "verl-rl": ("python -m verl.trainer.main_ppo", "ppo_trainer"),
    }[form]
    words = [word.replace("=STUDENT", f"={student}") for word in command(folder, first)]
    with initialize_config_module("verl.trainer.config", version_base=None):
        config = compose(config_name, words)
    return (_verl_sft if form == "verl-sft" else _verl_rl)(config, tokenizer_of(student))


def _verl_sft(config: Any, tokenizer: Any) -> Seen:
    from verl.trainer.sft_trainer import create_sft_dataset

    rows = create_sft_dataset(config.data.train_files, config.data, tokenizer, None)
    items = [rows[at] for at in range(len(rows))]
    learned = [item["input_ids"][item["loss_mask"] == 1].tolist() for item in items]
    return of_answers(sum(len(item["input_ids"]) for item in items), learned, tokenizer)


def _verl_rl(config: Any, tokenizer: Any) -> Seen:
    from verl.trainer.ppo.reward import get_custom_reward_fn
    from verl.utils.dataset.rl_dataset import RLHFDataset
    from verl.utils.reward_score import default_compute_score

    problems = RLHFDataset(config.data.train_files, tokenizer, config.data)
    score = get_custom_reward_fn(config) or default_compute_score
    rows = [problems[at] for at in range(len(problems))]

    def reward(row: Mapping[str, Any], answer: str) -> float:
        told = {"data_source": row["data_source"], "extra_info": row["extra_info"]}
        return float(score(solution_str=said(answer), ground_truth=row["reward_model"]["ground_truth"], **told))

    right = [reward(row, row["reward_model"]["ground_truth"]) for row in rows]
    wrong = [reward(row, WRONG) for row in rows]
    return of_problems([rendered(row["raw_prompt"], tokenizer) for row in rows], right, wrong, tokenizer)


def verifiers(form: str, folder: Path, student: str) -> Seen:
    """The package installed, then found by its id as `vf-eval` does; each task's own reward of a made-up reply."""
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "-e", str(folder)]
    subprocess.run(install, check=True, stdout=sys.stderr)
    site.addsitedir(site.getsitepackages()[0])  # the package is younger than this process
    from verifiers.v1.utils.loaders import load_taskset, taskset_config_type

    tasks = list(load_taskset(taskset_config_type("rlt-taskset")(id="rlt-taskset")))
    tokenizer = tokenizer_of(student)

    def reward(task: Any, answer: str) -> float:
        return float(asyncio.run(task.correct(SimpleNamespace(last_reply=said(answer)))))

    asked = [
        [{"role": "system", "content": task.data.system_prompt}, {"role": "user", "content": task.data.prompt}]
        for task in tasks
    ]
    right = [reward(task, task.data.answer) for task in tasks]
    wrong = [reward(task, WRONG) for task in tasks]
    return of_problems([rendered(each, tokenizer) for each in asked], right, wrong, tokenizer)


def renderers(form: str, folder: Path, student: str) -> Seen:
    """As prime-rl's SFTDataset does with a row: its messages, of which the assistant's are learned."""
    from datasets import load_dataset
    from renderers.base import build_training_sample, create_renderer

    name = flags_of(command(folder, "uv run sft @ sft.toml"))["data.name"].replace("$PWD", str(folder))
    tokenizer = tokenizer_of(student)
    renderer = create_renderer(tokenizer)
    samples = [
        build_training_sample(renderer, row["messages"], role_to_mask=lambda it: it["role"] == "assistant", tools=[])
        for row in load_dataset(name, None, split="train")
    ]
    learned = [[token for token, it in zip(one.token_ids, one.loss_mask, strict=True) if it] for one in samples]
    return of_answers(sum(len(one.token_ids) for one in samples), learned, tokenizer)


def axolotl(form: str, folder: Path, student: str) -> Seen:
    """As `axolotl train axolotl.yaml` does: load_cfg, then load_datasets or load_preference_datasets."""
    from axolotl.cli.config import load_cfg
    from axolotl.common.datasets import load_datasets, load_preference_datasets

    os.chdir(folder)
    given = Path("axolotl-student.yaml")
    given.write_text(Path(*command(folder, "axolotl train")).read_text().replace("STUDENT", student))
    config = load_cfg(str(given))
    tokenizer = tokenizer_of(student)
    if not config.rl:
        rows = load_datasets(cfg=config).train_dataset
        if config.process_reward_model:
            return Seen(len(rows), sum(len(row["input_ids"]) for row in rows), _steps(rows))
        return of_labels(((row["input_ids"], row["labels"]) for row in rows), tokenizer)
    rows = load_preference_datasets(cfg=config).train_dataset
    learned = tokenizer([row[it] for row in rows for it in ("chosen", "rejected")], add_special_tokens=False)[
        "input_ids"
    ]
    tokens = 2 * tokens_of(rows["prompt"], tokenizer) + sum(map(len, learned))
    return replace(of_answers(tokens, learned, tokenizer), rows=len(rows))


CONSUMERS: Mapping[str, Callable[[str, Path, str], Seen]] = {
    probe.__name__.replace("_", "-"): probe
    for probe in (axolotl, datasets, llamafactory, openrlhf, renderers, trl, trl_prm, verl, verifiers)
}


def main(words: list[str]) -> None:
    """Tries each format; what the consumer prints goes to stderr."""
    consumer, student, *asked = words
    for form, _, folder in (each.partition("=") for each in asked):
        try:
            with redirect_stdout(sys.stderr):
                found: dict[str, Any] = asdict(CONSUMERS[consumer](form, Path(folder), student))
        except (Exception, SystemExit) as error:  # noqa: BLE001  (whatever a consumer raises is what it says)
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        print(json.dumps({"format": form, **found}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
