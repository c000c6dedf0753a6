"""The files of examples/scale are what their readers accept: accelerate, a shell, Kubernetes, and our own verbs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser

from student.config import parse_command
from teacher.configs import TrainConfig

ROOT = Path(__file__).parent.parent
SCALE = ROOT / "examples" / "scale"
CONFIGURATIONS = ("one-gpu", "fsdp2", "zero3", "two-nodes")


def launched(name: str, *flags: str) -> Any:
    """What `accelerate launch` makes of a configuration and the command that its first lines show."""
    command = [*flags, "-m", "student.cli", "train", "--config", "my.toml"]
    arguments = ["--config_file", str(SCALE / f"{name}.yaml"), *command]
    return _validate_launch_command(launch_command_parser().parse_args(arguments))[0]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_accelerate_loads_the_configuration_and_finds_our_command(name: str) -> None:
    load_config_from_file(str(SCALE / f"{name}.yaml"))  # refuses a name that it does not know
    made = launched(name)
    assert (made.training_script, made.training_script_args) == ("student.cli", ["train", "--config", "my.toml"])
    assert made.mixed_precision == "bf16"


def test_each_configuration_divides_as_it_says() -> None:
    one, fsdp2, zero3 = launched("one-gpu"), launched("fsdp2"), launched("zero3")
    two = launched("two-nodes", "--machine_rank", "1", "--main_process_ip", "gpu-1")
    assert (one.num_processes, one.use_fsdp, one.use_deepspeed) == (1, False, False)
    assert (fsdp2.num_processes, fsdp2.use_fsdp, fsdp2.fsdp_version) == (8, True, 2)
    assert (zero3.num_processes, zero3.use_deepspeed, zero3.zero_stage) == (8, True, 3)
    assert (two.num_processes, two.num_machines, two.machine_rank, two.main_process_ip) == (16, 2, 1, "gpu-1")


def test_two_machines_divide_as_one_does() -> None:
    one, two = (yaml.safe_load((SCALE / f"{name}.yaml").read_text()) for name in ("fsdp2", "two-nodes"))
    assert one["fsdp_config"] == two["fsdp_config"]


def test_shellcheck_accepts_the_slurm_script() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    found = subprocess.run([shellcheck, SCALE / "slurm.sh"], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.fixture
def kubernetes() -> Any:
    """Kubernetes' schemas, where they are installed."""
    return pytest.importorskip("kubernetes_validate", reason="needs rlt[kubernetes], 17,000 files of schemas")


def manifests() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((SCALE / "kubernetes.yaml").read_text()))


@pytest.mark.parametrize("number", range(5))
def test_kubernetes_accepts_the_manifest(kubernetes: Any, number: int) -> None:
    assert len(manifests()) == 5
    kubernetes.validate(manifests()[number], "1.31", strict=True)


def test_kubernetes_would_refuse_a_name_that_it_does_not_know(kubernetes: Any) -> None:
    broken = manifests()[-1]
    broken["spec"]["template"]["spec"]["restart"] = "OnFailure"
    with pytest.raises(kubernetes.ValidationError):
        kubernetes.validate(broken, "1.31", strict=True)


def slurm_arguments() -> list[str]:
    """What the Slurm script gives `rlt train`."""
    script = (SCALE / "slurm.sh").read_text().replace("\\\n", " ")
    command = re.search(r"-m student\.cli train (.+?)' &", script)
    assert command is not None
    return shlex.split(command[1].replace("$", ""))


def kubernetes_arguments() -> list[str]:
    verb, *arguments = manifests()[-1]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert verb == "train"
    return [str(SCALE / argument) if argument == "train.toml" else argument for argument in arguments]


@pytest.mark.parametrize("arguments", [slurm_arguments(), kubernetes_arguments()], ids=["slurm", "kubernetes"])
def test_our_settings_in_the_scripts_are_settings(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    config = parse_command(TrainConfig, "train", arguments, "")
    assert isinstance(config, TrainConfig)
    assert config.rollout.engine == "vllm-server"
    assert config.rollout.server_url.endswith(":8000")
    assert len(config.scoring.urls) == 1
