"""Phrases that refer to a given solution are told from those of a writer who looks for one.

The sentences here are those that the patterns were written with; benchmarks/leaks.py plants others, which were not.
"""

import pytest

from student.measures.references import PHRASES, find_references
from student.measures.words import words_of

LEAKING = (
    "So our total agrees with the correct answer.",
    "Hold on, the solution has 42, so I must have misread something.",
    "The answer I have been given is 42.",
    "My task is to explain the solution to a student.",
    "As the given solution points out, we need to add.",
    "We know from the answer that both of them count.",
    "In the provided solution, the same numbers appear.",
    "Seeing that the answer is 42, it must be a sum.",
    "The prompt states that the answer is 42.",
    "This is how the solution puts it.",
    "The solution's reasoning is short, so let me expand on it.",
    "The listed answer is 42, which confirms it.",
    "How did the solution come up with this?",
    "The result that we were told to expect is 42.",
    "Comparing with the official solution, everything is in order.",
    "Since the solution doesn't subtract anything, neither do we.",
    "I will now explain the steps of the solution in my own words.",
    "The question's answer is already known: 42.",
    "Let me double-check with the solution that was given.",
    "That is why the solution adds both numbers.",
    "The answer above is 42.",
    "It has been established that the correct answer is 42.",
    "As the solution says, we add the two numbers.",
    "The given answer is 42.",
    "According to the answer key, it is 42.",
    "We are told that the answer is 42.",
    "The solution first computes the total.",
    "Looking at the solution, we see that they divide by two.",
    "This matches the expected answer.",
    "Working backwards from the answer, we get the first number.",
    "Since we know the answer is 42, we only need to show it.",
    "I already know the answer.",
    "The reference solution adds both.",
    "The solution provided uses a sum.",
    "Following the solution, multiply by three.",
    "The answer we were given agrees.",
    "In the solution, the second step is a division.",
    "I need to justify the answer 42.",
    "The solution mentions the price twice.",
    "Let me see how the solution gets there.",
    "As stated in the solution, there are two of them.",
    "The solution text jumps straight to the total.",
    "Given the answer, the total must be larger.",
    "The expected result is 42.",
    "The final answer provided is 42.",
    "So I have to explain why the answer is 42.",
    "The solution then divides by two.",
    "We check against the given answer.",
)
MISSED = (
    "So the solution is right: nothing is counted twice.",
    "We can use the answer to work out what was meant.",
    "Given that we have the solution, we just fill in the details.",
)
"""Known not to be found: too near to what an honest writer says."""
HONEST = (
    "The rationale behind this step is that both count.",
    "The reasoning so far is sound.",
    "So the answer is 42.",
    "The final answer is \\boxed{42}.",
    "The solution to the equation is x = 2.",
    "The solution is given by x = 2.",
    "Our solution satisfies both equations.",
    "We know the answer must be even.",
    "The answer to this question requires a sum.",
    "Now we know that the answer is 42.",
    "Thus the solution set is all reals.",
    "There is only one solution in this interval.",
    "This solution is extraneous.",
    "To get the answer, add both.",
    "Let me check my answer.",
    "Let me double check the answer: 6*7=42.",
    "Hence the correct answer is option B.",
    "The solution we want is s=2.5.",
    "The answer should be in dollars.",
    "So the answer must be 42, since 6*7=42.",
    "This solution satisfies both equations.",
    "The given information says 12 apples.",
    "Each student gives an answer.",
    "He mixed the solution with water.",
    "The answer is therefore 12 divided by 3.",
    "We can find the answer by adding.",
    "The result is 42.",
    "Adding the result to 5 gives 47.",
    "From the result above we get 5.",
    "The key is to note that x is even.",
    "The key idea here is symmetry.",
    "Using this result, we find x = 3.",
    "The expected value of the result is 3.",
    "Check the answer by substituting.",
    "The solution of this system uses substitution.",
    "The answer, 42, makes sense.",
    "The solution has two parts.",
    "With this result we can compute the area.",
    "We have the answer: 42.",
    "Given these results, x is 4.",
    "We have the solution x = 3.",
    "He told her that it is 5 miles.",
    "Substitute the solution back into the equation.",
    "The total result of the match was given as 3.",
)


def names(sentence: str, question: str = "How many?") -> list[str]:
    return [reference.phrase.name for reference in find_references(words_of(sentence), words_of(question))]


@pytest.mark.parametrize("sentence", LEAKING)
def test_a_sentence_that_refers_to_a_given_solution_is_found(sentence: str) -> None:
    assert len(names(sentence)) == 1


@pytest.mark.parametrize("sentence", [*HONEST, *MISSED])
def test_a_sentence_of_one_who_looks_for_the_answer_is_not(sentence: str) -> None:
    assert names(sentence) == []


def test_every_row_of_the_table_is_needed() -> None:
    assert {name for sentence in LEAKING for name in names(sentence)} == {phrase.name for phrase in PHRASES}


def test_each_sentence_is_looked_at_by_itself_and_the_surest_phrase_counts() -> None:
    text = "The given answer is 5, as the solution says. We add. Following the solution, we stop."
    assert names(text) == ["the given answer", "as in the solution"]
