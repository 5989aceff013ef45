"""Which works go together: the oldest always, within bounds, and none is lost."""

from functools import partial

from hypothesis import given, settings
from hypothesis import strategies as st

from medgemma_cli.engines.encoding import Encoded
from medgemma_cli.engines.schedule import Waiting, slices
from medgemma_cli.engines.work import Line, Work
from medgemma_cli.engines.writing import Answer
from medgemma_cli.records import Contract, Limits, Prompt

LIMITS = Limits(max_new_tokens=1)


def work(length: int, head: int = 0, kind: int = 0, pictures: int = 0, new: int = 1) -> Work:
    """A work of so many prompt tokens, with the head of its kind."""
    limits = Limits(max_new_tokens=new)
    asked = Prompt(id="x", messages=(), contract=Contract(kind="text"), limits=limits)
    ids = [kind] * head + [100] * (length - head)
    make = partial(Answer, limits, [])
    return Work(
        asked, Encoded(ids, head), make, make(), tuple((b"%d" % i, None) for i in range(pictures))
    )


ROOMS = st.lists(st.integers(2, 200), min_size=1, max_size=30)


@settings(max_examples=200, deadline=None)
@given(ROOMS, st.lists(st.integers(2, 200), max_size=6), st.integers(1, 12), st.integers(1, 1500))
def test_take_is_bounded_and_never_forgets_the_oldest(
    rooms: list[int], busy: list[int], rows: int, tokens: int
) -> None:
    """Rows and tokens hold, but for one alone; what is taken is of nearest length."""
    waiting = Waiting()
    works = [work(room - 1) for room in rooms]
    for one in works:
        waiting.add(one)
    lines = [Line(work(room - 1)) for room in busy]
    taken = waiting.take(rows, tokens, lines)
    assert len(waiting) == len(works) - len(taken)
    everyone = [*taken, *(line.work for line in lines)]
    if taken:
        # The oldest, and no other before it: nobody starves.
        assert taken[0] is works[0]
        assert len(everyone) <= rows
        assert len(everyone) == 1 or len(everyone) * max(w.room for w in everyone) <= tokens
    else:
        # Only where it does not fit beside those that are there.
        longest = max([*busy, works[0].room])
        assert lines and (len(lines) >= rows or (len(lines) + 1) * longest > tokens)
    left = [w for w in works if w not in taken]
    far = [abs(w.room - works[0].room) for w in taken]
    assert all(abs(w.room - works[0].room) >= max(far, default=0) for w in left)
    if taken and left:
        # It stops only where the next one does not fit.
        following = min(left, key=lambda w: abs(w.room - works[0].room))
        whole = [*everyone, following]
        over = len(whole) * max(w.room for w in whole) > tokens
        assert len(whole) > rows or over


@settings(max_examples=100, deadline=None)
@given(ROOMS, st.integers(1, 8), st.integers(1, 800))
def test_everything_is_taken_in_the_end(rooms: list[int], rows: int, tokens: int) -> None:
    """With free lines, each time one at least, the oldest among them; none twice."""
    waiting = Waiting()
    works = [work(room - 1) for room in rooms]
    for one in works:
        waiting.add(one)
    order = list(works)
    while len(waiting):
        taken = waiting.take(rows, tokens, [])
        assert taken and order[0] in taken
        for one in taken:
            order.remove(one)
    assert order == []


def test_put_back_goes_first() -> None:
    """What was taken once is not overtaken."""
    waiting = Waiting()
    first, second, third = work(5), work(5), work(90)
    waiting.add(third)
    waiting.put_back([first, second])
    assert waiting.take(1, 1000, []) == [first]
    assert waiting.take(1, 1000, []) == [second]
    waiting.clear()
    assert waiting.take(1, 1000, []) == [] and len(waiting) == 0


def test_take_from_nothing() -> None:
    """No work, no free line: nothing."""
    waiting = Waiting()
    assert waiting.take(4, 100, []) == []
    waiting.add(work(5))
    assert waiting.take(1, 100, [Line(work(5))]) == []
    assert len(waiting) == 1


def test_full_is_bounded() -> None:
    """A few batches' worth of works, and fewer of those with many pictures."""
    waiting = Waiting()
    while not waiting.full(4):
        waiting.add(work(5))
    assert len(waiting) == 16
    waiting.clear()
    while not waiting.full(1):
        waiting.add(work(5))
    assert len(waiting) == 8
    waiting.clear()
    while not waiting.full(256):
        waiting.add(work(5, pictures=10))
    assert len(waiting) == 7


WORKS = st.builds(
    lambda length, kind, headed, pictures: work(
        length + (10 if headed else 0), 10 if headed else 0, kind, pictures
    ),
    st.integers(1, 90),
    st.integers(0, 2),
    st.booleans(),
    st.integers(0, 2),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORKS, max_size=25), st.integers(1, 300))
def test_slices_are_alike_and_lose_nothing(works: list[Work], tokens: int) -> None:
    """One beginning and one count of pictures a slice; padded, within the tokens of a pass."""
    parts = list(slices(works, tokens))
    assert sorted(id(w) for part in parts for w in part) == sorted(map(id, works))
    for part in parts:
        assert len({(tuple(w.encoded.ids[: w.encoded.head]), len(w.pictures)) for w in part}) == 1
        shown = [w.length - w.encoded.head for w in part]
        assert shown == sorted(shown)
        assert len(part) == 1 or len(part) * max(shown) <= tokens
