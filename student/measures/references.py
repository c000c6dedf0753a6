"""Phrases that refer to a solution which the reader was never given: a table, one row a way of doing so.

A pattern is matched against one sentence as words in lower case with single spaces between; of its marks only those of
_MARKS are kept (student/measures/words.py). Only a sentence with one of NOUNS is looked at, and every repetition in a
pattern is bounded, so that no text is slow. A score says how sure the phrase is by itself; it counts less where the
question uses the same noun, for its solution may be an acid's and its answer a pupil's.

What must not be caught decides each pattern: "the solution to the equation", "our solution satisfies both", "the answer
to this question requires", "we know the answer must be even", "the solution is given by x = 2", "so the answer is 42".
Left out: references without one of the nouns ("it is written above that"), and other languages than English.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from student.measures.words import Words, any_of

NOUNS = any_of(
    "answer answers solution solution's solutions key result rationale told truth"
    " output reasoning explanation derivation"
)
ASKED_ABOUT = 0.4
"""What a phrase counts where the question itself uses its noun: less than the bound of docs/leaks.md."""
_MARKS = frozenset(",:=?$\\+-")

_HANDED = (
    "(?:given|provided|supplied|reference|official|gold|golden|model|stated|listed|printed|published|quoted"
    "|accompanying|attached|included|sample|expected|intended|suggested|claimed|target)"
)
_QUALITY = f"(?:{_HANDED}|correct|right|final|full|whole|true|actual|above|worked|desired|known|written)"
_THE = f"(?:the|this|that|your|their) (?:{_QUALITY} ){{0,2}}"
_ANY = "(?:answer|solution|result)"
_OWNERS = "(?:author|teacher|instructor|tutor|grader|expert|textbook|book|question|user|problem)"
_NOT_OF = (
    r"\b(?! (?:to|of|for|set|sets|choices?|options?|space|curve|process|method|path|format|above zero|in terms"
    r"|(?:that |which )?(?:i|we)(?: have| had)?"
    r" (?:get|got|find|found|obtain|obtained|want|need|seek|computed|derived))\b)"
)
"""Not "the solution to the equation" nor "the answer we found"."""
_ADVERBS = (
    r"(?: (?:already|itself|above|here|text|clearly|explicitly|also|just|then|first|next|only|simply|now|even"
    r"|\w+ly)){0,2}"
)
_SAYS = (
    "(?:says?|said|states?|stated|tells?|told|mentions?|mentioned|claims?|claimed|notes|noted|asserts?|lists?|listed"
    "|indicates?|reports?|reads|confirms?|reveals?|specifies|announces|writes|wrote|suggests?|explains?|shows?"
    "|hints?|points out|puts it)"
)
_STATES = (
    "(?:is|was|has|its|as|us|this|thus|plus|always|sets|requires|involves|needs|depends|lies|exists|becomes|consists"
    "|contains|follows|looks|seems|appears|remains|satisfies|yields|equals|works|means|includes|gives|process|makes"
    "|comes|passes|needed|required|obtained|found|used|based|desired|proposed|asked|called|mixed|across|isn't|wasn't)"
)
"""What the solution of an equation, or of salt, does as well."""
_AT = (
    "(?:according to|as per|(?:comes|came|coming) with|trust|seen|saw|knew|going by"
    "|judging (?:by|from)|consulting|(?:look|peek|glanc)(?:e|ed|ing)?(?: back)? at"
    "|referr?(?:ing)? to|(?:copied|taken) from|quoting|citing|trusting|thanks to|based on|access to|given"
    "|(?:know|learn|see|seen|infer|deduce) from|(?:indicated|stated|shown|implied|suggested|confirmed) (?:by|in)"
    "|use|justify|explain|explaining)"
)
"""What one does with an answer at hand."""
_IN = (
    "(?:in|from|with|by|per|against|out of|faithful to|compared to|stick to|sticking to|back to|via|follow|following"
    "|(?:re ?-? ?)?read|reading|study|studying|understand|reconstruct|retrace|retracing|through|over|how|why|did|does"
    "|explain|trust|seen|saw|knew|copy|reveal"
    "|(?:steps?|lines?|parts?|words?|rest|end|start|beginning) of)"
)
"""The same with a solution, which is longer."""
_TOLD = (
    "(?:told|informed|assured|handed|shown|supplied|granted|given|says?|said|states?|stated|established|claims"
    "|reveals|tells (?:us|me))(?: (?:us|me|here|already|in advance|beforehand|earlier|above)){0,2}"
)
_SINCE = (
    "(?:since|because|given|knowing|seeing|considering|aware|(?:already|in advance|beforehand|happen to)"
    " (?:know|knew|have)|why|how|see that|show that|explain|justify)"
    "(?: (?:that|,|we|i|you|they|say|already|also|know|knew|have|in advance)){0,4}"
)
_MATCHES = (
    "(?:match|matches|matching|(?:agrees?|agreeing|align|aligns|consistent|in line|in agreement|in accordance"
    "|coincides|corresponds|tallies|same|identical|compared?|comparing|check|checks|checked|checking|verify|verified)"
    "(?: (?:it|this|that|up|out|exactly|perfectly|result)){0,2} (?:with|to|against|as))"
)
_IS = "(?:is|was|equals|=|must be|should be|has to be|will be|to be|being|comes to|comes out as|turns out to be)"
_VALUE = r"(?:exactly |indeed |just |known to be |: )?(?:\\[a-z]+ |\$ |\\ ){0,4}(?:[+-]?\d|[b-e]\b)"


@dataclass(frozen=True)
class Phrase:
    """A way to refer to a given solution."""

    name: str
    pattern: str
    score: float


PHRASES = (
    Phrase(
        "the given answer",
        rf"\b{_HANDED} (?:(?!the|an?|this|that|our|my)\w+ )?(?:{_ANY}s?|output"
        r"|rationale|reasoning|explanation|derivation)\b"
        r"(?! (?:choices?|options?|sets?)\b)|\bknown answer\b"
        r"|\bthe one (?:(?:i|we) (?:was|were) )?(?:given|provided|listed)\b"
        rf"|\b(?:answer|solution|mark) (?:key|manual|sheet)\b|\bground truth\b"
        rf"|\b{_OWNERS}'s (?:answer|solution)",
        0.9,
    ),
    Phrase(
        "the answer we were given",
        rf"\b(?:{_ANY}|rationale)(?: (?:,|that|which|as|i|we|you|they|was|were|is|are|am|has|have|had|been|already"
        r"|also)){0,4} (?:given|provided|supplied|handed|shown|told|received|stated|specified|listed|expected"
        r"|supposed|meant|known|in front of|at hand|in hand|in advance|beforehand|came with|comes with|gave|wrote"
        r"|(?<=they )wants?|(?<=they )expect)\b"
        r"(?! (?:by|that|when|if|graph|in the form|terms)\b)",
        0.7,
    ),
    Phrase("the solution says", rf"\b{_THE}(?:answer|solution){_ADVERBS} {_SAYS}\b|\bsolution's \w+", 0.9),
    Phrase(
        "the solution divides",
        rf"\b{_THE}solution{_ADVERBS} (?:(?!{_STATES}\b)[a-z]{{2,24}}(?:s|ed|ct|n't)|did|does|took|goes|went|got|began"
        r"|has \d+)\b",
        0.6,
    ),
    Phrase(
        "according to the answer",
        rf"\b{_AT} {_THE}(?:answer|solution){_NOT_OF}|\bexplain(?:ing)? the solution to (?:a|the|you)\b"
        r"|\bthe (?:answer|solution) above\b",
        0.7,
    ),
    Phrase("as in the solution", rf"\b{_IN} {_THE}solution{_NOT_OF}", 0.6),
    Phrase(
        "we are told the answer",
        rf"\b{_TOLD}(?: that| with| what)? the (?:{_QUALITY} ){{0,2}}{_ANY}{_NOT_OF}"
        rf"|\b(?:told|informed)(?: already| here)? that (?:it|this) {_IS} {_VALUE}",
        0.8,
    ),
    Phrase(
        "since the answer is 42",
        rf"\b{_SINCE} the (?:{_QUALITY} ){{0,2}}{_ANY} (?:{_IS}|of|at) {_VALUE}"
        rf"|\bwhy (?:is|was) the (?:{_QUALITY} )?(?:answer|solution) {_VALUE}"
        rf"|\b(?:wait|hmm)(?: ,)? but the (?:{_QUALITY} )?answer {_IS} {_VALUE}",
        0.9,
    ),
    Phrase(
        "knowing the answer",
        r"\b(?:knowing(?: what)?|(?:already|in advance|beforehand) (?:know|knew|have|had|seen)(?: what)?)"
        rf" the (?:{_QUALITY} ){{0,2}}{_ANY}{_NOT_OF}(?! (?:must|has|will)\b)"
        rf"|\bknow(?: what)? the (?:{_QUALITY} ){{0,2}}{_ANY}(?: is)? (?:in advance|beforehand|already|ahead)\b",
        0.8,
    ),
    Phrase("it matches the answer", rf"\b{_MATCHES} the (?:{_QUALITY} ){{0,2}}{_ANY}{_NOT_OF}", 0.6),
    Phrase(
        "backwards from the answer",
        r"\b(?:backwards?|in reverse|reverse ?-? ?engineer(?:ing)?|starting|start|begin|beginning)(?: from| with)?"
        rf" {_THE}(?:answer|solution){_NOT_OF}|\bfrom {_THE}(?:answer|solution)(?: ,)? (?:backwards?|in reverse)\b",
        0.7,
    ),
)

_COMPILED = tuple((phrase, re.compile(phrase.pattern)) for phrase in PHRASES)


@dataclass(frozen=True)
class Reference:
    """Where a phrase was found, in words of the text."""

    phrase: Phrase
    start: int
    stop: int
    score: float


def find_references(trace: Words, question: Words) -> Iterator[Reference]:
    """The surest phrase of the table in each sentence of the trace."""
    asked = NOUNS.intersection(question.words)
    for sentence in trace.sentences:
        if not NOUNS.isdisjoint(trace.words[sentence.start : sentence.stop]):
            yield from sorted(_in_sentence(trace, sentence, asked), key=lambda found: -found.score)[:1]


def _in_sentence(trace: Words, sentence: range, asked: frozenset[str]) -> Iterator[Reference]:
    kept = [place for place in sentence if trace.words[place][0].isalnum() or trace.words[place][0] in _MARKS]
    spoken = " ".join(trace.words[place] for place in kept)
    places = [place for place in kept for _ in range(len(trace.words[place]) + 1)]
    for phrase, pattern in _COMPILED:
        if found := pattern.search(spoken):
            words = range(places[found.start()], places[found.end() - 1] + 1)
            also_asked = not asked.isdisjoint(trace.words[words.start : words.stop])
            yield Reference(phrase, words.start, words.stop, phrase.score * (ASKED_ABOUT if also_asked else 1))
