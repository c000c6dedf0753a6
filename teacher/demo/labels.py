"""How students, styles and ablations are called for people, on the page and on the terminal alike."""

from teacher.demo.world import Style

UNTAUGHT = "nothing (the base itself)"
LABELS = {
    "answers_only": "answers only",
    "base_teacher": "base teacher's explanations",
    "rlt_teacher": "RLT teacher's explanations",
    "gold": "complete explanations (gold)",
}
"""Students, by what they learned from."""
STYLE_LABELS: dict[Style, str] = {
    "complete": "one step an operand, all right",
    "wrong": "steps that go astray",
    "terse": "the operands read back",
    "chatter": "words that fit any question",
    "leak": "the solution, announced",
    "other": "anything else",
}
ABLATION_LABELS = {
    "rss_only": "RLT rewarded by rSS alone",
    "rkl_only": "RLT rewarded by rKL alone",
    "lambda_1": "RLT with lambda 1 instead of 3",
    "best_of_2": "no RL: best of 2 by reward",
    "best_of_4": "no RL: best of 4 by reward",
    "best_of_8": "no RL: best of 8 by reward",
    "best_of_16": "no RL: best of 16 by reward",
    "best_of_16_by_rss": "no RL: best of 16 by rSS alone",
    "best_of_16_by_rkl": "no RL: best of 16 by rKL alone",
    "quartile_1": "no RL: highest quarter by reward",
    "quartile_2": "no RL: second quarter",
    "quartile_3": "no RL: third quarter",
    "quartile_4": "no RL: lowest quarter",
    "outcome_rl": "no teacher: RL on own answers",
    "other_student_base_teacher": "another student, base teacher",
    "other_student_rlt_teacher": "another student, RLT teacher",
}
"""What the students of the ablations learned from."""
