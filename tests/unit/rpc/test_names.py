import pytest
from hypothesis import given
from hypothesis import strategies as st

from bbopt.errors import InvalidError
from bbopt.rpc.names import ProjectName, StudyName, TrialName, check_id

ids = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
STUDY = StudyName("p", "s")


@given(ids, ids, st.integers(1, 2**63 - 1))
def test_every_name_reads_back(project: str, study: str, number: int) -> None:
    for name in (
        ProjectName(project),
        StudyName(project, study),
        TrialName(project, study, number),
    ):
        assert type(name).parse(str(name)) == name


@pytest.mark.parametrize(
    "bad",
    [
        "",
        ".",
        "..",
        "../../etc/passwd",
        ".hidden",
        "-rf",
        "%2e%2e",
        "a/b",
        "a\\b",
        "C:",
        "\\\\host\\share",
        "x'; drop table trial;--",
        "a b",
        "a\n",
        "a\x00",
        "\x1b[31m",
        "é",
        "\u202eabc",
        "a\u200b",
        "а",
        "😀",
        "x" * 129,
    ],
)
def test_an_id_that_is_a_trick_is_refused(bad: str) -> None:
    with pytest.raises(InvalidError):
        check_id(bad)
    with pytest.raises(InvalidError):
        StudyName.parse(f"projects/p/studies/{bad}")


def test_the_longest_id_is_accepted() -> None:
    assert check_id("x" * 128) == "x" * 128


@pytest.mark.parametrize(
    "bad",
    [
        "projects/p/studies/s/",
        "/projects/p/studies/s",
        "projects//studies/s",
        "projects/p/studies/../studies/s",
        "projects/p/study/s",
        "Projects/p/studies/s",
        "projects/p/studies/s/trials/1",
        "projects/p",
        "projects/p/studies",
        "projects/p/studies/s\n",
    ],
)
def test_only_the_exact_shape_is_the_name_of_a_study(bad: str) -> None:
    with pytest.raises(InvalidError, match="must look like"):
        StudyName.parse(bad)


def test_a_name_that_ends_with_a_collection_is_refused_for_every_resource() -> None:
    with pytest.raises(InvalidError, match="must look like"):
        ProjectName.parse("projects")
    with pytest.raises(InvalidError, match="must look like"):
        TrialName.parse("projects/p/studies/s/trials")


@pytest.mark.parametrize("number", ["0", "-1", "01", "1.0", "1e3", "x", str(2**63), "９"])
def test_only_positive_decimal_numbers_are_numbers_of_trials(number: str) -> None:
    with pytest.raises(InvalidError):
        TrialName.number_within(number, STUDY)
    with pytest.raises(InvalidError):
        TrialName.parse(f"projects/p/studies/s/trials/{number}")


def test_a_trial_may_be_named_by_number_or_in_full() -> None:
    assert TrialName.number_within("7", STUDY) == 7
    assert TrialName.number_within("projects/p/studies/s/trials/7", STUDY) == 7


def test_a_trial_of_another_study_is_refused() -> None:
    with pytest.raises(InvalidError, match="must be a trial of projects/p/studies/s"):
        TrialName.number_within("projects/p/studies/other/trials/7", STUDY)


def test_what_is_refused_is_shown_without_control_characters_and_cut() -> None:
    with pytest.raises(InvalidError) as caught:
        StudyName.parse("\x1b[31m" + "x" * 10_000)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 300
