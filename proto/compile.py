"""Generate the Python stubs of ``bbopt/rpc/v1`` from the ``.proto`` files, or check them.

    python proto/compile.py            # write the stubs
    python proto/compile.py --check    # exit 1 if the committed stubs are stale

The generator is pinned to an old release on purpose: stubs refuse to load on a runtime that
is older than their generator, and 1.71.2 covers three major versions of protobuf. It cannot
share an environment with newer grpcio, so it gets one of its own (``BBOPT_PROTO_VENV``, or a
temporary one).
"""

import argparse
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
PACKAGE = Path("bbopt/rpc/v1")
GENERATOR = ["grpcio-tools==1.71.2", "mypy-protobuf==3.7.0", "setuptools<81"]


def python_with_generator(scratch: Path) -> Path:
    """Return an interpreter that has the pinned generator, building it if need be."""
    given = os.environ.get("BBOPT_PROTO_VENV")
    home = Path(given) if given else scratch / "venv"
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
        command = [str(python), "-m", "pip", "install", "--quiet", *GENERATOR]
        subprocess.run(command, check=True)  # noqa: S603 - our own pinned arguments
    return python


def generate(python: Path, out: Path) -> None:
    """Write stubs and their types for every ``.proto`` file below ``out``."""
    sources = sorted(str(path.relative_to(PROTO)) for path in (PROTO / PACKAGE).glob("*.proto"))
    environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}
    command = [
        *(str(python), "-m", "grpc_tools.protoc", f"-I{PROTO}"),
        *(f"--python_out={out}", f"--mypy_out={out}"),
        *(f"--grpc_python_out={out}", f"--mypy_grpc_out={out}"),
        *sources,
    ]
    subprocess.run(command, check=True, env=environment)  # noqa: S603 - our own arguments


def stubs(root: Path) -> dict[str, bytes]:
    """Read every generated file below ``root``."""
    return {path.name: path.read_bytes() for path in sorted((root / PACKAGE).glob("*_pb2*"))}


def main() -> int:
    """Generate or check; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as scratch:
        fresh_root = Path(scratch)
        generate(python_with_generator(fresh_root), fresh_root)
        fresh, committed = stubs(fresh_root), stubs(ROOT)
        if check:
            stale = sorted(
                name for name in fresh | committed if fresh.get(name) != committed.get(name)
            )
            for name in stale:
                print(f"stale stub: {PACKAGE / name} (run python proto/compile.py)")
            return 1 if stale else 0
        for name in committed.keys() - fresh.keys():
            (ROOT / PACKAGE / name).unlink()
        for name, content in fresh.items():
            (ROOT / PACKAGE / name).write_bytes(content)
    return 0


if __name__ == "__main__":
    sys.exit(main())
