r"""Where an explanation gives the solution away instead of deriving it: each passage with its kind and a score"
r" 0 to 1.

    verbatim      (1 - place / 2) * min(1, 2 * share), share of the solution's n-grams, without those of the question,
                  that the passage copies; place is 0 at the beginning of the explanation and 1 at its end
    reference     a phrase that refers to a given solution: the score of its row in student/measures/references.py
    early_answer  share of the work that is still to come at the answer's first place, times 1 where the answer is told
                  there ("the answer is 42", "\boxed{42}", "it is 42."), or 0.8 where it only stands there, and is
                  neither in the question nor a number that comes up by itself
    jump          share of the gain that one step brings without any work in it (credited steps only)

Work is what student/measures/work.py finds; an answer behind work in its own sentence is derived. The measure `leak` is
the highest score. Left out: whether the work is right, and a solution told in other words.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate, pairwise
from math import inf

from student.measures.answers import answer_words, is_telling, is_told
from student.measures.references import find_references
from student.measures.results import Leak, LeakKind, Step
from student.measures.words import Words, any_of, words_of
from student.measures.work import Work, find_work

GRAM = 6
"""Words in a row that nobody writes twice by chance."""
SPOKEN = 2
"""Words of letters that an n-gram must have."""
LEAST_COPIED = 8
"""Words below which nothing is called copied."""
WHOLE = 0.5
"""Share of the solution whose copy scores as one of all of it."""
LEAST_SCORE = 0.1
"""What copies so little, or so late, is no finding."""
LEAST_GAIN = 0.05
"""Nats a token that an explanation must gain before a part of it can be a jump."""
LEAST_JUMP = 0.5
"""Share of the gain from which a step without work is one."""
TOLD = 1.0
"""What an answer counts that is put forward as such."""
THERE = 0.8
"""What one counts that only stands there, where it is neither in the question nor a number that comes up by"
" itself."""
LEAKY = 0.4
"""Score above which an explanation counts as one that leaks, as `rlt select --filters.at-most leak=0.4` drops it."""
REASONED = 40
"""Words in front of an answer in the second half of a text that count as reasoning, where nothing is computed."""

_REASONS = any_of("so therefore thus hence because implies means follows consequently")


def find_leaks(
    question: str, solution: str, answer: str | None, explanation: str, steps: Sequence[Step] | None = None
) -> tuple[Leak, ...]:
    """Every leak of an explanation, by place; takes time linear in the texts, and raises for none of them.

    >>> find_leaks("3 +1 +5 +8", "7", "7", "well it is 7")
    (Leak(kind='early_answer', score=1.0, start=0, stop=12),)
    >>> find_leaks("3 +1 +5 +8", "7", "7", "+1 = 4 +5 = 9 +8 = 7")
    ()
    """
    trace, asked = words_of(explanation), words_of(question)
    work, sought = find_work(trace), answer_words(answer, solution)
    found = [*_copied(words_of(solution), asked, trace), *_referring(trace, asked), *_early(sought, asked, trace, work)]
    found += _jumps(steps or (), sought, trace, work)
    return tuple(sorted(found, key=lambda leak: (leak.start, leak.stop, leak.kind)))


def leak_score(leaks: Sequence[Leak]) -> float:
    """The measure `leak`: the highest score, 0 where nothing was found."""
    return max((leak.score for leak in leaks), default=0.0)


def _leak(kind: LeakKind, score: float, trace: Words, start: int, stop: int) -> Leak:
    """A leak from one word up to another."""
    return Leak(kind=kind, score=score, start=trace.starts[start], stop=trace.stops[stop - 1])


def _copied(solution: Words, question: Words, trace: Words) -> Iterator[Leak]:
    own = set(_grams(solution).values()) - set(_grams(question).values())
    whole = _covered([place for place, gram in _grams(solution).items() if gram in own])
    for run in _runs([place for place, gram in _grams(trace).items() if gram in own]):
        copied = _covered(run)
        score = min(1.0, copied / whole / WHOLE) * (1 - run[0] / len(trace) / 2)
        if copied >= LEAST_COPIED and score >= LEAST_SCORE:
            yield _leak("verbatim", score, trace, run[0], run[-1] + GRAM)


def _grams(text: Words) -> dict[int, tuple[str, ...]]:
    """The n-grams by place, those of mere numbers and marks left out: two who reckon right reckon alike."""
    spoken = [0, *accumulate(len(word) > 1 and word.isalpha() for word in text.words)]
    last = len(text) - GRAM + 1
    return {
        place: text.words[place : place + GRAM]
        for place in range(last)
        if spoken[place + GRAM] - spoken[place] >= SPOKEN
    }


def _covered(places: Sequence[int]) -> int:
    """Words within the n-grams that begin at these places."""
    return sum(min(GRAM, after - place) for place, after in pairwise(places)) + GRAM * bool(places)


def _runs(hits: Sequence[int]) -> Iterator[list[int]]:
    """Hits that follow each other with no more than twice GRAM between: a copy with a word changed here and there."""
    run: list[int] = []
    for hit in hits:
        if run and hit - run[-1] > 2 * GRAM:
            yield run
            run = []
        run.append(hit)
    if run:
        yield run


def _referring(trace: Words, question: Words) -> Iterator[Leak]:
    for reference in find_references(trace, question):
        yield _leak("reference", reference.score, trace, reference.start, reference.stop)


def _early(answer: Sequence[str], question: Words, trace: Words, work: Work) -> Iterator[Leak]:
    """The first place of the answer, where it comes before the work that yields it; later ones repeat it."""
    expected = is_telling(answer) and not question.places(answer) if answer else False
    places = trace.places(answer)
    work = work.without({place for start in places for place in range(start, start + len(answer))})
    for start, sentence in _in_sentences(places, trace):
        to_come = work.share_after(start) if work.places else float(not _reasoned(trace, start))
        if work.within(sentence.start, start) or not to_come:
            return
        told = is_told(trace, sentence, start, start + len(answer))
        if told or (expected and not work.within(start, sentence.stop)):
            yield _leak("early_answer", to_come * (TOLD if told else THERE), trace, sentence.start, start + len(answer))
            return


def _in_sentences(places: Sequence[int], trace: Words) -> Iterator[tuple[int, range]]:
    """Each place with the sentence it stands in."""
    sentences = iter(trace.sentences)
    sentence = range(0)
    for place in places:
        while place >= sentence.stop:
            sentence = next(sentences)
        yield place, sentence


def _reasoned(trace: Words, start: int) -> bool:
    """Whether a text that computes nothing has reasoned in words before this one."""
    return start >= REASONED and start > len(trace) / 2


def _jumps(steps: Sequence[Step], answer: Sequence[str], trace: Words, work: Work) -> Iterator[Leak]:
    """The step that brings most of the gain, where it works nothing out and repeats no answer that was worked out."""
    gain = sum(max(step.credit, 0.0) for step in steps)
    if len(steps) < 2 or not LEAST_GAIN <= gain < inf:
        return
    best = max(steps, key=lambda step: step.credit)
    start, stop = bisect_left(trace.stops, best.start + 1), bisect_left(trace.starts, best.stop)
    if start < stop and best.credit >= LEAST_JUMP * gain and not _works(trace, start, stop, answer, work):
        yield _leak("jump", best.credit / gain, trace, start, stop)


def _works(trace: Words, start: int, stop: int, answer: Sequence[str], work: Work) -> bool:
    """Whether a step derives something, gives a reason, or repeats an answer that work before it has reached."""
    if work.within(start, stop) or _REASONS.intersection(trace.words[start:stop]):
        return True
    reached = [place for place in trace.places(answer) if place < start and work.before(place)]
    return bool(reached)
