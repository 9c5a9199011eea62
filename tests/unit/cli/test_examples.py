"""Every study file in the examples and the documentation is valid."""

import re
from pathlib import Path

import pytest

from bbopt_client.cli.study_files import load_study_file, read_study_text

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name
)
def test_an_example_is_a_study(path: Path) -> None:
    assert load_study_file(str(path)).name


def test_the_documented_study_file_is_a_study() -> None:
    text = (ROOT / "docs" / "study-files.md").read_text()
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    definition = read_study_text(block, "docs/study-files.md")
    assert len(definition.spec.problem.space.parameters) == 7
