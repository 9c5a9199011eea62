"""Study files: a study's whole definition in YAML or JSON, read with line numbers."""

from bbopt_client.cli.study_files.definition import StudyDefinition
from bbopt_client.cli.study_files.faults import Fault, Place, StudyFileError
from bbopt_client.cli.study_files.reader import load_study_file, read_study_text

__all__ = [
    "Fault",
    "Place",
    "StudyDefinition",
    "StudyFileError",
    "load_study_file",
    "read_study_text",
]
