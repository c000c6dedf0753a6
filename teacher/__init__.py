"""The teacher's side: it learns to explain, and then explains. Builds on student/, never on server/.

teacher       a model that sees question and solution and writes the explanation between them; prompts.py
warm-up       supervised fine-tuning that teaches a model the explanation's format; warmup.py
group         the explanations sampled for one problem in one step, compared with each other
reward model  a frozen student, and the teacher beside it, that turn explanations into scores; reward_model.py
GRPO          policy gradient with the group as its baseline: the trainer of student/, handed our reward; grpo.py,
              run by train.py
reference     the copy of the teacher that GRPO keeps it close to, moved along now and then
standing      a problem and its best row so far; those below a threshold get more samples; resample.py
replay        a row made again from what it says of itself, and compared; replay.py
pilot         a few problems that are explained first, to tell what all of them will take; estimate.py
recipe        a TOML file with the settings of a whole chain, one table a verb; recipe.py, recipes/
demo          the chain in a toy world, with a measured effect; demo/
bench         what a reward costs, against the reference algorithm; bench/

Each verb's settings are in configs.py; errors.py draws the tree of what can go wrong.
"""

from teacher.errors import TeacherError

__all__ = ["TeacherError"]
