"""Run pytest on pretended CUDA devices, or on the GPU of the machine.

python -m tests.rehearsal -m cuda tests
"""

import os
import sys
from pathlib import Path

from .build import VARIABLE, has_gpu, load_shim

ROOT = Path(__file__).parents[2]


def main() -> None:
    """Replace this process by pytest, whose child processes rehearse as well."""
    command = [sys.executable, "-m", "pytest"]
    if not has_gpu():
        load_shim()  # any obstacle is named here
        folders = [Path(__file__).parent / "startup", ROOT, os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(str(folder) for folder in folders if folder)
        os.environ[VARIABLE] = "1"
        command += ["-p", "tests.rehearsal.plugin"]
    os.execv(sys.executable, [*command, *sys.argv[1:]])


if __name__ == "__main__":
    main()
