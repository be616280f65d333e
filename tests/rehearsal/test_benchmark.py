"""The benchmark of CUDA runs on pretended devices, for its logic."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests import rehearsal

ROOT = Path(__file__).parents[2]


@pytest.mark.cuda
@pytest.mark.skipif(
    torch.cuda.is_available() and not rehearsal.is_pretended(),
    reason="needs a CUDA device that is pretended (python -m tests.rehearsal)",
)
def test_rows_run_to_their_end(tmp_path):
    command = [sys.executable, "-m", "benchmarks.cuda", "--rehearsal", "--output", str(tmp_path)]
    done = subprocess.run(
        [
            *command,
            "--cases",
            "layouts",
            "waits",
            "prefetching",
            "loop",
            "short",
            "memory",
            "float16",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "cuda.json").read_text())
    assert report["results"]["device"] == "rehearsal"
    assert "A rehearsal on pretended devices" in (tmp_path / "cuda.rst").read_text()
    rows = report["results"]["rows"]
    assert len(rows) > 20
    assert not [row for row in rows if row["expected"] == "no error"]
    # Rows without a time hold on pretended devices, too.
    held = {row["what"]: row["held"] for row in rows}
    assert held["memory after searches"]
    assert held["a fit after an out-of-memory error"]
    assert held["steps that float16 skips"]
    assert held["two workers on one GPU"]
