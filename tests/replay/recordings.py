"""Recorded studies: definition and log of a study that a server ran, as committed files.

A file is JSON: the ``StudySpec`` and the ``LogEvent`` messages in protobuf's own mapping, which
keeps every digit of a number, and the build that computed the suggestions.
"""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy
import torch
from google.protobuf.json_format import MessageToDict, ParseDict

from bbopt.rpc.log import event_from_message
from bbopt.rpc.study import study_spec_from_message
from bbopt.rpc.v1 import log_pb2, study_pb2
from bbopt.specs import StudySpec
from bbopt.trial import Event

FOLDER = Path(__file__).parent / "recorded"


@dataclass(frozen=True, slots=True)
class Recording:
    """One recorded study."""

    definition: study_pb2.StudySpec
    log: Sequence[log_pb2.LogEvent]
    build: Mapping[str, Any]
    """What computed the suggestions; see ``this_build``."""

    @property
    def spec(self) -> StudySpec:
        """The definition as the library knows it."""
        return study_spec_from_message(self.definition)

    @property
    def events(self) -> list[Event | None]:
        """The log as the library folds it."""
        return [event_from_message(each) for each in self.log]

    def save(self, name: str) -> None:
        """Write the file of this name."""
        content = {
            "build": self.build,
            "spec": MessageToDict(self.definition),
            "events": [MessageToDict(each) for each in self.log],
        }
        text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def load(name: str) -> Recording:
    """Read the file of this name."""
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    definition = ParseDict(content["spec"], study_pb2.StudySpec())
    log = [ParseDict(each, log_pb2.LogEvent()) for each in content["events"]]
    return Recording(definition, log, content["build"])


def this_build() -> dict[str, Any]:
    """Name everything that may change the last bit of a sum: versions, and what the CPU can do.

    Two machines with the same answer here may be trusted to compute alike.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    numpy = np.show_config(mode="dicts")
    assert numpy is not None
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "python": python,
        "numpy": np.__version__,
        "numpy_simd": numpy["SIMD Extensions"]["found"],
        "scipy": scipy.__version__,
        "torch": torch.__version__,
        "torch_simd": torch.backends.cpu.get_cpu_capability(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()
