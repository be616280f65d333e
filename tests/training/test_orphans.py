"""Workers end with their parent."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading

import pytest

from skimbal.training.orphans import end_if_orphaned, end_with_parent
from tests.orphans import alive, family, wait_until

SCRIPT = """
import os, sys, warnings
import joblib, numpy as np
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from skimbal import CNN2DClassifier
from skimbal.study import compare_losses

class Says(Callback):
    def on_epoch_begin(self, net, **kwargs):
        os.close(os.open(f"{folder}/{os.getpid()}", os.O_CREAT))

what, backend, n_jobs, folder = sys.argv[1:]
if __name__ == "__main__":
    X = np.random.default_rng(0).integers(0, 200, (60, 8, 8), dtype=np.uint8)
    y = np.arange(60) % 3
    clf = CNN2DClassifier(max_epochs=3000, module="small", callbacks=[Says])
    with joblib.parallel_config(backend):
        if what == "search":
            GridSearchCV(clf, {"lr": [1e-3, 1e-4]}, cv=2, n_jobs=int(n_jobs)).fit(X, y)
        compare_losses(X, y, losses=["ce", "focal"], estimator=clf, cv=2, n_jobs=int(n_jobs))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("what", "backend", "n_jobs", "number"),
    [
        ("search", "loky", 2, signal.SIGKILL),
        ("search", "loky", 2, signal.SIGTERM),
        ("search", "loky", 6, signal.SIGKILL),  # two workers have nothing to do
        ("search", "multiprocessing", 2, signal.SIGKILL),
        ("study", "loky", 2, signal.SIGKILL),
        ("study", "loky", 2, signal.SIGINT),
    ],
)
def test_no_worker_outlives_its_parent(tmp_path, what, backend, n_jobs, number):
    script, folder = tmp_path / "script.py", tmp_path / "pids"
    script.write_text(SCRIPT)
    folder.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script), what, backend, str(n_jobs), str(folder)],
        stderr=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.getcwd()},
    )
    wait_until(lambda: len(os.listdir(folder)) >= min(n_jobs, 4), seconds=180)
    workers = family(process.pid)
    assert len(workers) >= n_jobs
    process.send_signal(number)
    process.wait()
    wait_until(lambda: not alive(workers), seconds=30)


def test_main_process_is_no_worker():
    before = signal.getsignal(signal.SIGURG)
    threads = threading.active_count()
    end_with_parent()
    end_if_orphaned()
    assert signal.getsignal(signal.SIGURG) is before
    assert threading.active_count() == threads


def look(connection):
    end_with_parent()
    end_with_parent()  # of the next fit
    os.kill(os.getpid(), signal.SIGURG)  # as when the thread that began this process has ended
    end_if_orphaned()
    codes = []
    leave, os._exit, getppid = os._exit, codes.append, os.getppid
    os.getppid = lambda: 1
    end_if_orphaned()
    os._exit, os.getppid = leave, getppid
    connection.send((signal.getsignal(signal.SIGURG) is not signal.SIG_DFL, codes))


@pytest.mark.slow
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("daemon", [True, False])
def test_workers_of_pools_look_and_other_processes_do_not(method, daemon):
    context = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=look, args=(theirs,), daemon=daemon)
    process.start()
    listens, codes = ours.recv()
    process.join()
    # The server that forks is the parent of its processes.
    is_worker = daemon and method == "spawn"
    assert codes == [1] * is_worker
    assert listens == (is_worker and sys.platform == "linux")
