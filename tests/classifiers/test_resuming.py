"""Which fits are the same: in a process, in searches, studies and processes that were killed."""

import importlib
import io
import json
import os
import re
import subprocess
import sys
import threading
import time
from unittest import mock

import numpy as np
import pytest
import torch
from imblearn.under_sampling import RandomUnderSampler
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from skorch.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    GradientNormClipping,
    PrintLog,
)
from torch import nn

from skimbal import LossMix
from skimbal.callbacks import Resume
from skimbal.classifiers import resuming
from skimbal.exceptions import ParameterError
from skimbal.images import ImageArray
from skimbal.losses import TERMS, Term
from skimbal.study import compare_losses
from skimbal.training import OPTIMIZERS, Resumption
from tests.classifiers.data import images, small
from tests.resuming import (
    Killed,
    assert_same_fit,
    counted_epochs,
    fit_in_two,
    killed_after,
    with_resume,
)

X, Y = images(30)


class Seen(BaseException):
    """The name of a file, before any training."""


def key_of(X=X, y=Y, fit_params=None, **params):
    """Return the checksum of a fit."""

    def see(folder, key, seed, is_seed_fixed, *others):
        raise Seen(key, None if is_seed_fixed else seed)

    clf = with_resume(small(**{"batch_size": 15, **params}), "nowhere")
    with mock.patch.object(resuming, "Resumption", see), pytest.raises(Seen) as seen:
        clf.fit(X, y, **(fit_params or {}))
    return seen.value.args[0]


def fit(folder, X=X, y=Y, clf=None, fit_params=None, **params):
    clf = small(**{"batch_size": 15, **params}) if clf is None else clf
    return with_resume(clf, folder).fit(X, y, **(fit_params or {}))


def flat(n_channels, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(36, n_classes))


class TestSame:
    @pytest.mark.parametrize(
        "other",
        [
            {"lr": 0.006},
            {"max_epochs": 5},
            {"loss": LossMix(ce=1, mcc=2)},
            {"sampler": RandomUnderSampler()},
            {"augment": "flip"},
            {"augment": [lambda x: x + 1]},
            {"module": flat, "net": None},
            {"net": {"module__width": 8, "optimizer__weight_decay": 0.1}},
            {"random_state": 1},
            {"dtype": "float64"},
            {"callbacks": [GradientNormClipping(1.0)]},
            {"callbacks": [GradientNormClipping]},
            {"callbacks": [EpochScoring("accuracy")]},
            {
                "callbacks": [
                    Checkpoint(
                        monitor=None,
                        f_params=None,
                        f_optimizer=None,
                        f_criterion=None,
                        f_history=None,
                        load_best=False,
                    )
                ]
            },
            {"X": X + 1e-6},
            {"X": X.astype(np.float64)},
            {"y": 1 - Y},
            {"y": np.where(Y, "b", "a")},
            {"fit_params": {"sample_weight": np.arange(30) % 2}},
            {"fit_params": {"groups": np.arange(30)}},
        ],
        ids=lambda other: repr(other)[:60],
    )
    def test_another_fit_has_another_file(self, other):
        assert key_of(**other) == key_of(**other) != key_of()

    @pytest.mark.parametrize(
        "other",
        [
            {"verbose": 2},
            {"warm_start": True},
            {"callbacks": [PrintLog()]},
            {"random_state": np.int64(0)},
            {"X": ImageArray(X)},
            {"X": np.asfortranarray(X)},
            {"y": Y.tolist()},
        ],
        ids=lambda other: repr(other)[:60],
    )
    def test_the_same_fit_has_the_same_file(self, other):
        assert key_of(**other) == key_of()

    def test_code_that_was_edited(self, tmp_path, monkeypatch):
        monkeypatch.syspath_prepend(tmp_path)
        text = """
from torch import nn

FACTOR = 1

class Net(nn.Module):
    def __init__(self, n_channels, n_classes):
        super().__init__()
        self.linear = nn.Linear(36, n_classes)

    def forward(self, x):
        return self.linear(x.flatten(1)) * FACTOR
"""
        edits = [
            ("x.flatten(1)", "x.flatten(1) + 1"),
            ("FACTOR = 1", "FACTOR = 2"),
            ("FACTOR = 1", "FACTOR = 1  # a comment"),
        ]
        keys = []
        for old, new in [("FACTOR", "FACTOR"), *edits]:
            (tmp_path / "edited_net.py").write_text(text.replace(old, new))
            sys.modules.pop("edited_net", None)
            importlib.invalidate_caches()
            cache = tmp_path / "__pycache__"
            for file in cache.iterdir() if cache.exists() else ():
                file.unlink()
            net = importlib.import_module("edited_net").Net
            keys.append(key_of(module=net, net=None))
        assert keys[3] == keys[0]
        assert len(set(keys)) == 3

    def test_a_row_of_a_table_that_was_replaced(self):
        keys = []
        for factor in (1, 2):
            row = Term(score=lambda tp, predicted, true, factor=factor: factor * tp.sum())
            with mock.patch.dict(TERMS, {"own": row}):
                keys.append(key_of(loss="ce+own"))
        assert keys[0] != keys[1]

    def test_an_optimizer_that_was_replaced(self):
        keys = []
        for optimizer in (torch.optim.Adam, torch.optim.SGD):
            with mock.patch.dict(OPTIMIZERS, {"adam": optimizer}):
                keys.append(key_of(optimizer="adam", lr=0.1))
        assert keys[0] != keys[1]

    def test_a_state_that_callbacks_collect_does_not_count(self, tmp_path):
        class Log(Callback):
            def __init__(self):
                self.seen = []

            def on_epoch_end(self, net, **kwargs):
                self.seen.append(len(net.history))

        log = Log()
        clf = small(callbacks=[log, Resume(tmp_path, seconds=0)])
        with killed_after(2), pytest.raises(Killed):
            clf.fit(X, Y)
        with counted_epochs() as epochs:
            clf.fit(X, Y)
        assert len(epochs) == 2
        assert log.seen == [1, 2, 3, 4]

    def test_parameters_of_callbacks_that_net_sets(self, tmp_path):
        stop = EarlyStopping(patience=9, monitor="train_loss")
        clf = small(callbacks=[("stop", stop), Resume(tmp_path, seconds=0)])
        clf.set_params(net__callbacks__stop__patience=7)
        with killed_after(2), pytest.raises(Killed):
            clf.fit(X, Y)
        assert stop.patience == 7
        with counted_epochs() as epochs:
            clf.fit(X, Y)
        assert len(epochs) == 2
        clf.set_params(net__callbacks__stop__patience=8)
        with killed_after(2), pytest.raises(Killed):
            clf.fit(X, Y)


def drawing(*seeds):
    """Let classifiers without a seed draw these."""
    return mock.patch("skimbal.classifiers.base.draw_seed", side_effect=seeds)


class TestSeeds:
    def test_a_seed_that_was_drawn_is_kept(self, tmp_path):
        with drawing(111, 222, 111):
            with killed_after(2), pytest.raises(Killed):
                fit(tmp_path, random_state=None)
            (file,) = tmp_path.iterdir()
            assert file.name.endswith(f"-{111:08x}.resume")
            with counted_epochs() as epochs:
                clf = fit(tmp_path, random_state=None)
            assert len(epochs) == 2
            assert_same_fit(clf, small(batch_size=15, random_state=None).fit(X, Y))
        assert [*tmp_path.iterdir()] == []

    def test_a_fit_that_runs_keeps_its_file(self, tmp_path):
        other = []
        ended = Resumption.epoch_ended

        def start_another(self, net):
            ended(self, net)
            if not other:
                other.append(None)
                with counted_epochs() as epochs:
                    started = fit(tmp_path, random_state=None)
                other[0] = started, len(epochs)

        with drawing(1, 2, 1, 2), mock.patch.object(Resumption, "epoch_ended", start_another):
            clf = fit(tmp_path, random_state=None)
            assert other[0][1] == 4
            for found in (clf, other[0][0]):
                assert_same_fit(found, small(batch_size=15, random_state=None).fit(X, Y))
        assert [*tmp_path.iterdir()] == []

    def test_a_generator_as_random_state(self, tmp_path):
        def make():
            return small(random_state=np.random.RandomState(3))

        whole = make().fit(X, Y)
        clf, n_epochs = fit_in_two(make, tmp_path, X, Y, n_epochs=2)
        assert n_epochs == 2
        assert_same_fit(clf, whole)


class TestRefused:
    def test_a_parameter_that_cannot_be_described(self, tmp_path):
        stream = io.TextIOWrapper(io.BytesIO())

        def augment(x):
            stream.write("a")
            return x

        clf = small(callbacks=[Resume(tmp_path / "a")], augment=[augment])
        with pytest.raises(ParameterError, match=r"without Resume if .*'stream'.*TextIOWrapper"):
            clf.fit(X, Y)
        assert not hasattr(clf, "net_")
        assert not (tmp_path / "a").exists()

    def test_a_callback_that_cannot_be_described(self, tmp_path):
        class Own(Callback):
            def __init__(self, lock):
                self.lock = lock

        clf = small(callbacks=[Resume(tmp_path), Own(open(__file__, "rb"))])  # noqa: SIM115
        with clf.callbacks[1].lock, pytest.raises(ParameterError, match="without Resume if"):
            clf.fit(X, Y)

    def test_partial_fit(self, tmp_path):
        clf = small(callbacks=[Resume(tmp_path)])
        with pytest.raises(ParameterError, match="without Resume for partial_fit"):
            clf.partial_fit(X, Y, classes=[0, 1])

    def test_two_of_them(self, tmp_path):
        with pytest.raises(ParameterError, match="one Resume at most"):
            small(callbacks=[("a", Resume(tmp_path)), ("b", Resume(tmp_path))]).fit(X, Y)

    @pytest.mark.parametrize("folder", [None, 3, "", b"a", Callback()])
    def test_no_folder(self, folder):
        with pytest.raises(ParameterError, match="Resume__folder must be the path of a folder"):
            small(callbacks=[Resume(folder)]).fit(X, Y)

    @pytest.mark.parametrize("seconds", [-1, "1", True, float("nan"), float("inf")])
    def test_no_time(self, seconds, tmp_path):
        with pytest.raises(ParameterError, match="Resume__seconds must be None or a number"):
            small(callbacks=[Resume(tmp_path, seconds)]).fit(X, Y)

    def test_parameters_by_the_net(self, tmp_path):
        clf = small(callbacks=[Resume(tmp_path)], net={"callbacks__Resume__folder": "b"})
        with pytest.raises(ParameterError, match="a dict without callbacks__Resume__"):
            clf.fit(X, Y)

    def test_an_iterator_without_a_state(self, tmp_path):
        from torch.utils.data import DataLoader

        def loader(dataset, batch_size):
            return map(dataset.batch, [np.arange(15), np.arange(15, 30)])

        for iterator, match in [
            (loader, "has methods state_dict and load_state_dict"),
            (
                lambda d, batch_size: DataLoader(d, 9, num_workers=1, persistent_workers=True),
                "pers",
            ),
        ]:
            clf = small(callbacks=[Resume(tmp_path)], net={"iterator_train": iterator})
            with pytest.raises(ParameterError, match=match):
                clf.fit(X, Y)
        assert [*tmp_path.iterdir()] == []


class TestWords:
    @pytest.mark.parametrize("verbose", [0, 1, 2])
    def test_a_fit_says_that_it_goes_on(self, verbose, tmp_path, capsys):
        with killed_after(3), pytest.raises(Killed):
            fit(tmp_path)
        (file,) = tmp_path.iterdir()
        capsys.readouterr()
        fit(tmp_path, verbose=verbose)
        found = capsys.readouterr()
        text = f"Resumed at epoch 4 of 4 from {file}\n"
        assert (text in found.out) == (verbose > 0)
        if verbose == 1:
            assert "4/4" in found.err
            assert "5/4" not in found.err
            assert "| 3/4" in found.err  # before an epoch of this run has ended
            assert "1/4" not in found.err

    def test_a_state_that_is_left_out_is_a_warning(self, tmp_path):
        class Own(Callback):
            def on_train_begin(self, net, **kwargs):
                self.encoder = json.JSONEncoder()

        clf = small(callbacks=[Own(), Resume(tmp_path, seconds=0)])
        with killed_after(3), pytest.raises(Killed):
            clf.fit(X, Y)
        with pytest.warns(UserWarning, match=r"without the state of .*Own.*encoder.*JSONEnc") as c:
            clf.fit(X, Y)
        assert c[0].filename == __file__

    def test_an_object_that_the_user_passes_is_not_a_warning(self, tmp_path):
        class Own(Callback):
            def __init__(self, encoder):
                self.encoder = encoder

        def make():
            return small(callbacks=[Own(json.JSONEncoder())])

        _clf, n_epochs = fit_in_two(make, tmp_path, X, Y, n_epochs=2)
        assert n_epochs == 2


class TestSearches:
    @pytest.mark.slow
    def test_a_grid_search_goes_on(self, tmp_path):
        def make(callbacks=None):
            return GridSearchCV(
                small(callbacks=callbacks, batch_size=15),
                {"lr": [1e-3, 1e-2]},
                cv=2,
                error_score="raise",
                refit=False,
            )

        expected = make().fit(X, Y).cv_results_["mean_test_score"]
        callbacks = [Resume(tmp_path, seconds=0)]
        for _ in range(3):  # each time one epoch later
            with killed_after(2), pytest.raises(Killed):
                make(callbacks).fit(X, Y)
        assert len([*tmp_path.iterdir()]) == 1
        with counted_epochs() as epochs:
            found = make(callbacks).fit(X, Y).cv_results_["mean_test_score"]
        assert len(epochs) == 4 * 4 - 3
        np.testing.assert_array_equal(found, expected)
        assert [*tmp_path.iterdir()] == []

    @pytest.mark.slow
    def test_fits_in_workers_share_a_folder(self, tmp_path):
        clf = small(callbacks=[Resume(tmp_path, seconds=0)], batch_size=15)
        expected = cross_val_score(small(batch_size=15), X, Y, cv=3)
        np.testing.assert_array_equal(cross_val_score(clf, X, Y, cv=3, n_jobs=2), expected)
        assert [*tmp_path.iterdir()] == []

    def test_equal_fits_at_once(self, tmp_path):
        results = []
        threads = [threading.Thread(target=lambda: results.append(fit(tmp_path))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert_same_fit(*results)

    @pytest.mark.slow
    def test_a_study_goes_on(self, tmp_path):
        def run(callbacks):
            return compare_losses(
                X,
                Y,
                estimator=small(callbacks=callbacks, batch_size=15),
                losses=["ce", "ce+mcc"],
                samplers=["uniform"],
                cv=2,
                random_state=0,
                verbose=0,
            )

        expected = run(None).scores("log_loss")
        callbacks = [Resume(tmp_path, seconds=0)]
        with killed_after(2), pytest.raises(Killed):
            run(callbacks)
        assert len([*tmp_path.iterdir()]) == 1
        with counted_epochs() as epochs:
            found = run(callbacks).scores("log_loss")
        assert len(epochs) == 4 * 4 - 2
        assert found.keys() == expected.keys()
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name])

    def test_clones_and_copies(self, tmp_path):
        clf = clone(small(callbacks=[Resume(tmp_path, 3)]))
        (callback,) = clf.callbacks
        assert (callback.folder, callback.seconds) == (tmp_path, 3)


class TestWarmStart:
    def test_a_second_fit_goes_on_from_the_same_weights(self, tmp_path):
        first = small(warm_start=True).fit(X, Y)

        def make():
            clf = clone(first)
            vars(clf).update(
                {k: v for k, v in vars(first).items() if k.endswith("_") or k[0] == "_"}
            )
            return clf

        whole = make().fit(X, Y)
        clf, n_epochs = fit_in_two(make, tmp_path, X, Y, n_epochs=2)
        assert n_epochs == 2
        assert_same_fit(clf, whole)

    def test_other_weights_are_another_fit(self, tmp_path):
        clf = small(warm_start=True, callbacks=[Resume(tmp_path, seconds=0)])
        with killed_after(2), pytest.raises(Killed):
            clf.fit(X, Y)
        with counted_epochs() as epochs:
            clf.fit(X, Y)
        assert len(epochs) == 4


SCRIPT = """
import sys, time
import numpy as np
from skorch.callbacks import Callback
from skimbal.callbacks import Resume
from skimbal.classifiers import resuming
from tests.classifiers.data import images, small

class Slow(Callback):
    def on_epoch_begin(self, net, **kwargs):
        time.sleep(0.3)

rng = np.random.default_rng(0)

def noisy(x):
    return x + rng.normal()

folder, out = sys.argv[1:]
X, y = images(30)
clf = small(augment=noisy, sampler="balanced", max_epochs=5, verbose=1)
clf.set_params(callbacks=[Slow(), Resume(folder, seconds=0)]).fit(X, y)
np.save(out, clf.predict_proba(X))
"""


@pytest.mark.slow
def test_a_killed_process_goes_on_in_another(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)

    def start(folder):
        command = [sys.executable, script, tmp_path / folder, tmp_path / f"{folder}.npy"]
        # The script imports the tests beside it, which no environment installs.
        environment = os.environ | {"PYTHONPATH": os.getcwd()}
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    with start("runs") as killed:
        while not [*(tmp_path / "runs").glob("*.resume")]:
            assert killed.poll() is None
            time.sleep(0.01)
        killed.kill()
    with start("whole") as whole:
        whole.communicate()
    (file,) = (tmp_path / "runs").glob("*.resume")
    with start("runs") as again:
        text, _ = again.communicate()
    assert again.returncode == 0
    assert re.search(rf"Resumed at epoch [234] of 5 from {re.escape(str(file))}", text)
    found, expected = (np.load(tmp_path / f"{folder}.npy") for folder in ("runs", "whole"))
    np.testing.assert_array_equal(found, expected)
    assert [*(tmp_path / "runs").iterdir()] == []
