"""The device, precision and compiler of a fit, refused by name where they cannot work."""

import os
import pickle
import sys
import time

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

import skimbal
from skimbal.callbacks import Resume
from skimbal.classifiers.machine import check_device, check_machine
from skimbal.exceptions import ParameterError
from skimbal.persistence import read_card
from skimbal.training.divergence import trace_of
from skimbal.training.surroundings import uses_tf32
from tests.classifiers.data import Y, images, noise, small, tiny


def test_a_device_without_a_generator_is_refused(monkeypatch):
    monkeypatch.setattr("skimbal.classifiers.machine.has_generator", lambda device: False)
    with pytest.raises(ParameterError, match=r"device must be .* whose random numbers torch can"):
        tiny(device="cpu").fit(noise(), Y)


def test_a_fit_on_any_device_can_be_resumed(tmp_path):
    tiny(device="auto", callbacks=[Resume(tmp_path)]).fit(noise(), Y)


@pytest.mark.parametrize("device", [torch.device("cpu"), "cpu:0"])
def test_device_objects(device, tmp_path):
    clf = clone(tiny(device=device)).fit(noise(), Y).partial_fit(noise(), Y)
    assert torch.device(clf.net_.device).type == "cpu"
    clf.save(tmp_path / "model.skimbal")
    assert skimbal.load(tmp_path / "model.skimbal").net_.device == clf.net_.device


def test_partial_fit_goes_on_where_the_network_is():
    clf = tiny(device="auto").partial_fit(noise(), Y, classes=[0, 1])
    # As after a call on another device.
    clf.net_.device = "cuda:1"
    with pytest.raises(ParameterError, match=r"device must be 'cuda:1' or a name .* got 'cpu'"):
        clf.set_params(device="cpu").partial_fit(noise(), Y)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("options", [{}, {"compile__mode": "reduce-overhead"}])
def test_backends_without_kernels_need_no_compiler(backend, options, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    check_machine(tiny(compile=True, net={"compile__backend": backend, **options}))
    with pytest.raises(ParameterError, match=r"compile must be .*aot_eager"):
        check_machine(tiny(compile=True, net=options))
    check_machine(tiny(compile=False, net=options))


def test_a_backend_that_torch_does_not_have_is_refused():
    with pytest.raises(ParameterError, match=r"net must be .*inductor.* got 'eagre'"):
        check_machine(tiny(compile=True, net={"compile__backend": "eagre"}))


class Settings(Callback):
    """Note the settings of CUDA in training."""

    def on_epoch_end(self, net, **kwargs):
        self.found = uses_tf32(), torch.backends.cudnn.benchmark


def test_settings_of_cuda_apply_to_fits_and_predictions(monkeypatch):
    seen = Settings()
    before = uses_tf32(), torch.backends.cudnn.benchmark
    clf = tiny(net={"tf32": not before[0], "cudnn_benchmark": not before[1]}, callbacks=[seen])
    clf.fit(noise(), Y)
    assert seen.found == (not before[0], not before[1])
    found = []

    def look(logits):
        found.append(uses_tf32())
        return trace_of(logits)

    monkeypatch.setattr("skimbal.training.prediction.trace_of", look)
    clf.predict(noise())
    assert set(found) == {not before[0]}
    assert (uses_tf32(), torch.backends.cudnn.benchmark) == before
    assert "tf32" not in clf.history_[-1]
    with pytest.raises(ParameterError, match=r"net must be a dict whose tf32 is True.* got 'no'"):
        tiny(net={"tf32": "no"}).fit(noise(), Y)


@pytest.mark.cuda
@pytest.mark.parametrize("tf32", [False, True])
def test_tf32_is_in_the_history_and_the_card(tf32, tmp_path):
    clf = small(device="cuda", max_epochs=1, net={"tf32": tf32}).fit(*images())
    assert clf.history_[-1]["tf32"] == tf32
    clf.save(tmp_path / "model.skimbal")
    card = read_card(tmp_path / "model.skimbal")
    assert f"- TF32 in convolutions: {'yes' if tf32 else 'no'}" in card


@pytest.mark.cuda
def test_the_device_is_fixed_at_the_fit(tmp_path):
    X, y = images()
    before = torch.cuda.current_device()
    last = torch.cuda.device_count() - 1
    clf = small(device="cuda").fit(X, y)
    assert (clf.device, clf.net_.device) == ("cuda", f"cuda:{before}")
    proba = clf.predict_proba(X)
    with torch.cuda.device(last):
        np.testing.assert_array_equal(clf.predict_proba(X), proba)
        clf.transform(X)
        clf.partial_fit(X, y)
        assert clf.net_.device == f"cuda:{before}"
        clf.save(tmp_path / "model.skimbal")
        assert skimbal.load(tmp_path / "model.skimbal").net_.device == clf.net_.device
        assert small(device="auto").fit(X, y).net_.device == f"cuda:{last}"
        assert clone(clf).fit(X, y).net_.device == f"cuda:{last}"
        loaded = pickle.loads(pickle.dumps(clf))
        loaded.partial_fit(X, y)
        assert loaded.net_.device == clf.net_.device
    assert torch.cuda.current_device() == before


@pytest.mark.cuda
def test_numbers_of_devices(tmp_path):
    X, y = images()
    last = f"cuda:{torch.cuda.device_count() - 1}"
    with pytest.raises(ParameterError, match=r"got 'cuda:17'. There are \d+ CUDA device"):
        small(device="cuda:17").fit(X, y)
    clf = small(device=torch.device(last)).fit(X, y)
    weights = clf.net_.module_.state_dict().values()
    assert {str(weight.device) for weight in weights} == {last}
    with pytest.raises(ParameterError, match=rf"device must be '{last}' or a name.* got 'cpu'"):
        clf.set_params(device="cpu").partial_fit(X, y)


@pytest.mark.cuda
def test_workers_of_a_search_spread_over_the_devices(tmp_path):
    X, y = images()

    def scoring(fitted, X, y):
        # A worker that starts late must find fits that are left.
        (tmp_path / str(os.getpid())).touch()
        end = time.monotonic() + 60
        while len([*tmp_path.iterdir()]) < 2 and time.monotonic() < end:
            time.sleep(0.05)
        return torch.device(fitted.net_.device).index

    search = GridSearchCV(
        small(device="auto", max_epochs=1), {"lr": [0.1, 0.2]}, cv=4, scoring=scoring, n_jobs=2
    )
    search.set_params(refit=False).fit(X, y)
    used = {search.cv_results_[f"split{i}_test_score"][j] for i in range(4) for j in range(2)}
    assert used <= set(range(torch.cuda.device_count()))
    assert len(used) == min(2, torch.cuda.device_count())


@pytest.mark.cuda
def test_the_compiler_of_cuda(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    for backend in ("eager", "aot_eager", lambda graph, inputs: graph):
        check_machine(tiny(device="cuda", compile=True, net={"compile__backend": backend}))
    with pytest.raises(ParameterError, match="False without the package triton"):
        check_machine(tiny(device="cuda", compile=True))


@pytest.mark.cuda
@pytest.mark.parametrize(
    "options",
    [
        {"mode": "reduce-overhead"},
        {"mode": "max-autotune"},
        {"backend": "cudagraphs"},
        {"options": {"triton.cudagraphs": True}},
    ],
)
def test_cuda_graphs_are_refused(options):
    net = {f"compile__{name}": value for name, value in options.items()}
    with pytest.raises(ParameterError, match=r"net must be .* without CUDA graphs"):
        check_machine(tiny(device="cuda", compile=True, net=net))
    check_machine(tiny(device="cuda", compile=False, net=net))


@pytest.mark.cuda
@pytest.mark.parametrize("capability", [(7, 5), (8, 0)])
def test_bfloat16_that_is_emulated_is_named(capability, monkeypatch, recwarn):
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda device=None: capability)
    monkeypatch.setattr("torch.version.hip", None)
    X, y = images()
    clf = small(device="cuda", dtype="bfloat16", max_epochs=1)
    clf.fit(X, y)
    clf.partial_fit(X, y)
    found = [w for w in recwarn if "is emulated on cuda:0" in str(w.message)]
    assert len(found) == (capability < (8, 0))
    assert all(w.filename == __file__ for w in found)


def test_check_device_gives_a_number(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 1)
    monkeypatch.setattr("torch.empty", lambda *shape, device: torch.zeros(1))
    assert check_device("auto") == check_device("cuda") == "cuda:1"
    assert check_device("cuda:0") == "cuda:0"
    # A launcher gives each process its own.
    assert check_device("cuda", launched=True) == "cuda"
