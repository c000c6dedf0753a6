"""The student that the settings mean, ready to read: in this process, or on vLLM servers that were found to hold it."""

from transformers import PreTrainedTokenizerBase

from student import processes
from student.configs import ModelSettings, ScoringSettings
from student.models import load_pair, load_tokenizer
from student.scoring.remote import VllmScorer
from student.scoring.scorer import Scorer
from student.scoring.self_test import read_here
from student.scoring.temperature import refuse_folded


def open_scorer(
    student: str, settings: ModelSettings, scoring: ScoringSettings, temperature: float
) -> tuple[Scorer | VllmScorer, PreTrainedTokenizerBase]:
    """The student's scorer and its tokenizer; `temperature` is the one that it will be asked for.

    With `scoring.urls` the servers are met, then the student is read here for the self-test and freed, then each server
    is tested. Under torchrun one process of a machine does that; each meets the servers. Raises ModelError with the
    server and the remedy where one does not answer, holds another student, or holds it at another temperature.
    """
    refuse_folded(student)
    if not scoring.urls:
        model, tokenizer = load_pair(student, settings)
        return Scorer(model, scoring), tokenizer
    tokenizer = load_tokenizer(student)
    scorer = VllmScorer(scoring, temperature)
    scorer.meet()
    if scoring.self_test and processes.index_on_machine() == 0:
        scorer.examine(read_here(student, settings, scoring, temperature))
    return scorer, tokenizer
