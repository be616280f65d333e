"""Two processes on two devices train as one process does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.rehearsal import two_processes

ROOT = Path(__file__).parents[2]
#: float16 sums halves of a batch in another order than one process does.
CLOSE = {"float16": 0.1}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Scores and events of both processes."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs a CUDA device for each of two processes")
    folder = tmp_path_factory.mktemp("processes")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(ROOT)]))
    done = subprocess.run(
        [*launch, two_processes.__file__, folder],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.cuda
@pytest.mark.parametrize("name", two_processes.CASES)
def test_two_devices_train_as_one(results, name):
    params = two_processes.CASES[name]
    alone = two_processes.fit(params).predict_proba(two_processes.images()[0])
    for rank, result in enumerate(results):
        assert result[name]["device"] == f"cuda:{rank}"
        assert result[name]["accuracy"] > 0.9
        tolerance = CLOSE.get(name, 1e-3)
        np.testing.assert_allclose(result[name]["probabilities"], alone, atol=tolerance)
    assert results[0][name]["probabilities"] == results[1][name]["probabilities"]


@pytest.mark.cuda
@pytest.mark.parametrize("name", two_processes.CASES)
def test_two_devices_have_no_mix_and_no_race(results, name):
    for result in results:
        kinds = result[name]["kinds"]
        assert not any(kinds.get(kind) for kind in ("mix", "race", "lifetime")), kinds
