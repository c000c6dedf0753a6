"""The student's side: it reads, understands (which is the reward), learns and is examined. Imports no sibling package.

problem       a question with its solution; problems.py, read from files by problem_files.py
trace         somebody's existing way from a question to its solution
explanation   what a teacher wrote for one problem, as a row with its tokens; explanations.py
thought       the explanation in the place where a student thinks, between question and solution
tags          the literal text around solution, explanation and thought; tags.py
passage       what a model reads, as token ids, and where explanation and solution stand in it; reading.py
scorer        a frozen student that returns the log-probability of every token of a passage; scoring/
score         the reward of an explanation and its parts: rSS (is the solution understood after it?) less rKL (is each
              of its steps plausible without the solution?); rewards.py
engine        what samples text, transformers or vLLM; engine.py, engine_vllm.py
distillation  training a student on question, thought, solution; distill.py on sft.py
cold start    a distilled student trained further by RL, on whether its own solutions are right; coldstart.py on grpo.py
lesson        a row to train on as text; exports/ writes lessons in the formats of other trainers
evaluation    sampling a student's solutions and grading them; evaluate.py, grading.py
retention     what a student still solves of a second suite after training; retention.py on compare.py
manifest      where a row is from and what was found of it, without its texts; manifests.py
card          what a dataset says of itself, for people and for the hub; cards/
run           a training in its folder, whose files run_files.py lists; read while it goes on by run_reading/
estimate      what a job will take, with an interval, from a pilot of some of its problems; estimates.py
replay        a row beside the same row made again; replays.py
verb          a word after `rlt`; cli.py, its settings in configs.py

Importing this package turns telemetry off, before any library that has some is loaded; and it loads no torch.
"""

import os

from student.errors import RltError
from student.problems import Problem
from student.tags import Tags

__all__ = ["Problem", "RltError", "Tags"]

for _switch in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY", "VLLM_NO_USAGE_STATS"):
    os.environ.setdefault(_switch, "1")
