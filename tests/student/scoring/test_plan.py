"""Packs hold every passage once, within their budget, and each token knows its position and whom it shares with."""

from hypothesis import given
from hypothesis import strategies as st

from student.reading import Passage, assemble
from student.scoring.bodies import batches
from student.scoring.plan import Pack, packs, predictors

IDS = st.lists(st.integers(3, 9), min_size=0, max_size=6)
BEGINNINGS = st.sampled_from([[1], [1, 2], [1, 2, 2], [2, 2, 2, 2]])
PASSAGES = st.lists(st.builds(assemble, BEGINNINGS, IDS, st.just([0]), IDS), max_size=12)


def read_back(pack: Pack) -> dict[int, list[int]]:
    """Each passage's ids as a member sees them: its prefix, then its own."""
    return {
        member.passage: [pack.ids[place] for place in (*member.prefix, *member.tokens)]
        for group in pack.groups
        for member in group.members
    }


@given(PASSAGES, st.integers(1, 60))
def test_every_passage_is_in_one_pack_whole_and_within_the_budget(passages: list[Passage], budget: int) -> None:
    made = packs(passages, budget)
    found = [item for pack in made for item in read_back(pack).items()]
    assert sorted(found) == [(number, passage.input_ids) for number, passage in enumerate(passages)]
    alone = [pack for pack in made if sum(len(group.members) for group in pack.groups) == 1]
    for pack in (pack for pack in made if pack not in alone and len(pack.ids) > budget):
        assert len(pack.groups) == 1
        assert budget < len(pack.groups[0].prefix) + len(pack.groups[0].members[0].tokens)
        assert len(pack.ids) <= 2 * len(pack.groups[0].prefix)


@given(PASSAGES, st.integers(1, 60))
def test_a_token_has_the_position_of_its_passage_and_predictors_are_found(passages: list[Passage], budget: int) -> None:
    for pack in packs(passages, budget):
        for group in pack.groups:
            for member in group.members:
                places = [*member.prefix, *member.tokens]
                assert [pack.positions[place] for place in places] == list(range(len(places)))
        for number, places in pack.places(passages):
            ids = passages[number].input_ids
            assert [pack.ids[place] for place in places] == [ids[place] for place in predictors(passages[number])]


def test_a_group_pays_for_what_it_shares_once() -> None:
    group = [assemble([1] * 50, [2] * length, [0], [3]) for length in (4, 5, 6)]
    assert [len(pack.ids) for pack in packs(group, 1000)] == [50 + 15 + 3 * 2]


def test_an_explanation_read_up_to_each_of_its_steps_is_paid_for_once() -> None:
    steps = [assemble([1] * 50 + [2] * 100 * count, [], [0], [3]) for count in range(5)]
    [pack] = packs(steps, 1000)
    assert len(pack.ids) == 50 + 400 + 5 * 2
    [group] = pack.groups
    assert [(member.passage, len(member.prefix)) for member in group.members] == [
        (count, 50 + 100 * count) for count in (4, 3, 2, 1, 0)
    ]
    assert [len(pack.ids) for pack in packs(steps, 300)] == [460], "longer than the budget, and still read once"
    other = assemble([1] * 50 + [4] * 10, [], [0], [3])
    assert [len(pack.groups) for pack in packs([*steps, other], 1000)] == [2]


@given(st.lists(st.integers(1, 50), max_size=20), st.integers(1, 100))
def test_padded_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    made = list(batches(lengths, budget))
    assert sorted(number for batch in made for number in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * max(lengths[number] for number in batch) <= budget for batch in made)
