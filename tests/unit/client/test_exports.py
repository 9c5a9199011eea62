import subprocess
import sys

import pytest

import bbopt
import bbopt_client


def test_every_public_name_can_be_imported() -> None:
    for name in bbopt_client.__all__:
        assert getattr(bbopt_client, name).__name__ == name


def test_the_table_of_homes_is_the_list_of_names() -> None:
    assert sorted(bbopt_client._HOMES) == bbopt_client.__all__
    assert set(bbopt_client.__all__) <= set(dir(bbopt_client))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
        bbopt_client.Nonsense  # noqa: B018


def test_importing_the_package_loads_neither_grpc_nor_numpy() -> None:
    program = "import sys, bbopt_client; sys.exit(len({'grpc', 'numpy'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0  # noqa: S603


def test_conditions_are_public_beside_the_parameters_that_they_are_for() -> None:
    assert {"AllOf", "Between", "Equals"} <= set(bbopt_client.__all__) & set(bbopt.__all__)
    is_svm = bbopt_client.Equals("model", ("svm",))
    model = bbopt_client.Categorical("model", ("svm", "forest"))
    bbopt_client.Space((model, bbopt_client.Float("c", 0.1, 9, active_if=is_svm)))
