from hypothesis import given
from hypothesis import strategies as st

from bbopt.numerics import stream

part = st.one_of(st.integers(), st.text(max_size=8))


@given(st.integers(), st.lists(part, max_size=4))
def test_the_same_seed_and_path_give_the_same_numbers(seed: int, path: list[int | str]) -> None:
    assert (stream(seed, *path).random(4) == stream(seed, *path).random(4)).all()


@given(st.lists(part, max_size=4), st.lists(part, max_size=4))
def test_different_paths_give_different_numbers(a: list[int | str], b: list[int | str]) -> None:
    is_same_path = [(type(x), x) for x in a] == [(type(x), x) for x in b]
    is_same_draw = bool((stream(0, *a).random(4) == stream(0, *b).random(4)).all())
    assert is_same_draw == is_same_path


def test_a_stream_is_the_same_in_every_process() -> None:
    assert stream(7, "ask", 3).integers(2**32) == 3508506070
