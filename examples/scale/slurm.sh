#!/usr/bin/env bash
# Four machines with eight GPUs each: one samples, one reads (the student), two train, divided by FSDP2.
#
#     sbatch examples/scale/slurm.sh        from a checkout that all machines see, with .venv set up in it
#
# Ten minutes before the time is up the run saves and stops, and the job is queued again: the same command goes on.
# Not run by us; shellcheck accepts it.
#SBATCH --job-name=rlt-train
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@600
#SBATCH --requeue
#SBATCH --output=runs/slurm-%j.log
#SBATCH --open-mode=append
set -euo pipefail

# shellcheck disable=SC1091  # made by `make setup`
source .venv/bin/activate
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
sampler=${nodes[0]} reader=${nodes[1]} first=${nodes[2]} second=${nodes[3]}

# on MACHINES COMMAND...: runs a command on each of some machines.
on() { srun --overlap --kill-on-bad-exit=1 --nodes="$(tr ',' '\n' <<< "$1" | wc -l)" --ntasks-per-node=1 --nodelist="$1" "${@:2}"; }

# The student has the reward's temperature in its weights (docs/scoring.md); the copy is made once.
if [[ ! -f models/student-t0.7/config.json ]]; then
    on "$reader" python -m student.scoring.temperature models/student 0.7 models/student-t0.7
fi

on "$sampler" trl vllm-serve --model models/teacher-warm --host 0.0.0.0 --port 8000 \
    --tensor_parallel_size 8 --max_model_len 20480 &
sampling=$!
on "$reader" vllm serve models/student-t0.7 --served-model-name student --host 0.0.0.0 --port 8000 \
    --data-parallel-size 8 --max-model-len 20481 --max-num-batched-tokens 2048 &
reading=$!
trap 'kill "$sampling" "$reading" 2> /dev/null || true' EXIT

for server in "$sampler" "$reader"; do
    until curl --silent --fail --output /dev/null "http://$server:8000/health"; do
        kill -0 "$sampling" "$reading" || exit 1
        sleep 5
    done
done

# A step may take longer than the 30 seconds that the launcher waits after SIGTERM before it kills.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=540
export FIRST=$first SAMPLER=$sampler READER=$reader
# shellcheck disable=SC2016  # the variables are those of each machine's shell
on "$first,$second" bash -c 'exec accelerate launch --config_file examples/scale/two-nodes.yaml \
    --machine_rank "$SLURM_PROCID" --main_process_ip "$FIRST" \
    -m student.cli train --config examples/scale/train.toml \
    --rollout.server-url "http://$SAMPLER:8000" --scoring.urls "http://$READER:8000"' &
training=$!

asked=no
trap 'asked=yes; kill -TERM "$training"' TERM
status=0
wait "$training" || status=$?
if [[ $asked == yes ]]; then
    wait "$training" || true
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
