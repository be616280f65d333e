"""The page on additions: its code runs, and each addition works as one row of a table."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.metrics import recall_score
from sklearn.model_selection import GridSearchCV

from skimbal import CNN2DClassifier, LossMix
from skimbal.__main__ import main
from skimbal.augmentation import RECIPES
from skimbal.images import FORMATS, ImageFiles
from skimbal.losses import TERMS, get_loss
from skimbal.networks import BUILT_IN
from skimbal.sampling import STRATEGIES
from skimbal.study import compare_losses
from tests.plain import plain

PAGE = (Path(__file__).parents[1] / "docs" / "extending.rst").read_text()
TABLES = {
    "recall": TERMS,
    "square_root": STRATEGIES,
    "two_layers": BUILT_IN,
    "mild": RECIPES,
    "table": FORMATS,
}
ADDED_PAIR = ("ce+recall", "square_root")
ADDED = {"loss": "ce+recall", "sampler": "square_root", "module": "two_layers", "augment": "mild"}


@pytest.fixture(scope="module")
def page():
    """The names that the code of the page defines, while the rows that it adds are there."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE)
    before = {name: list(table) for name, table in TABLES.items()}
    namespace = {"__name__": "page"}
    try:
        for block in blocks:
            code = re.sub(r"^    ", "", block, flags=re.MULTILINE)
            exec(compile(code, "extending.rst", "exec"), namespace)
        for name, table in TABLES.items():
            assert list(table) == [*before[name], name]
        yield namespace
    finally:
        for name, table in TABLES.items():
            table.pop(name, None)
    assert {name: list(table) for name, table in TABLES.items()} == before


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two classes of images as text files, in a folder for each."""
    where, rng = tmp_path_factory.mktemp("scans"), np.random.default_rng(0)
    for label, n_images in {"rare": 6, "common": 18}.items():
        (where / label).mkdir()
        for number in range(n_images):
            image = rng.normal(label == "rare", 0.1, (6, 6))
            np.savetxt(where / label / f"{number}.txt", image)
    return where


def test_the_additions_train(page):
    clf, X, y = page["clf"], page["X"], page["y"]
    assert clf.net_.criterion_.factors == {"ce": 1, "recall": 1}
    assert clf.net_.module_.network[1].out_features == 32
    assert [type(step).__name__ for step in clf.net_.augmentation] == [
        "RandomGaussianBlur",
        "RandomFlip",
    ]
    assert clf.net_.history[-1, "train_loss"] < clf.net_.history[0, "train_loss"]
    narrow = clone(clf).set_params(net={"module__width": 8}, max_epochs=1).fit(X, y)
    assert narrow.net_.module_.network[1].out_features == 8


def test_the_sampler_draws_by_the_square_root(page):
    rng, classes = np.random.default_rng(0), [np.arange(100), np.arange(100, 10100)]
    rows = page["draw_square_root"](classes, rng)
    assert len(rows) == 10100
    assert np.mean(rows < 100) == pytest.approx(1 / 11, abs=0.01)


@pytest.mark.usefixtures("page")
def test_the_loss_is_one_minus_recall():
    loss = get_loss("recall")
    y_true, y_pred = torch.tensor([0, 0, 0, 1, 1, 2]), torch.tensor([0, 1, 0, 1, 2, 2])
    hard = 50 * torch.nn.functional.one_hot(y_pred, 4).double()  # no row of the last class
    assert loss(hard, y_true).item() == pytest.approx(
        1 - recall_score(y_true, y_pred, average="macro")
    )
    logits = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.arange(6.0, dtype=torch.float64)
    for weights in (None, weight):
        assert torch.autograd.gradcheck(
            lambda z, weights=weights: loss(z, y_true, weights), logits.clone().requires_grad_()
        )
    repeated = loss(
        logits.repeat_interleave(weight.long(), 0), y_true.repeat_interleave(weight.long())
    )
    torch.testing.assert_close(loss(logits, y_true, weight), repeated)
    nothing = loss(logits.requires_grad_(), y_true, torch.zeros_like(weight))
    assert torch.isfinite(nothing)
    assert torch.isfinite(*torch.autograd.grad(nothing, logits)).all()


def test_the_loss_has_what_terms_have(page):
    assert "recall" in LossMix(ce=1, recall=0.5).get_params()
    search = GridSearchCV(
        CNN2DClassifier(loss=LossMix(ce=1, recall=1), module="two_layers", max_epochs=1),
        {"loss__recall": [0, 0.5]},
        cv=2,
    )
    assert search.fit(page["X"], page["y"]).best_params_["loss__recall"] in (0, 0.5)
    moving = CNN2DClassifier(
        LossMix(ce=1, recall=1, statistics="moving"), module="two_layers", max_epochs=1
    ).fit(page["X"], page["y"])
    assert moving.net_.criterion_.moving is not None
    whole, in_parts = (
        plain(loss="ce+recall", micro_batch_size=size, dtype="float64", random_state=0)
        .set_params(module="two_layers", max_epochs=2)
        .fit(page["X"], page["y"])
        .predict_proba(page["X"])
        for size in (None, 16)
    )
    np.testing.assert_allclose(whole, in_parts, rtol=1e-6, atol=1e-9)


@pytest.mark.usefixtures("page")
def test_the_reader_reads(folder):
    images = ImageFiles(sorted((folder / "rare").iterdir()))
    assert images.shape == (6, 6, 6)
    expected = np.loadtxt(folder / "rare" / "0.txt")
    np.testing.assert_allclose(np.asarray(images[:1])[0], expected, rtol=1e-6)


def test_the_study_compares_the_additions(page):
    study = page["study"]
    assert {(row.loss, row.sampler) for row in study.estimates()} == {
        (loss, sampler) for loss in ("ce", "ce+recall") for sampler in ("uniform", "square_root")
    }


@pytest.mark.slow
def test_worker_processes_get_the_rows(page):
    # The function of another module named page, which no worker could import.
    assert TABLES["square_root"]["square_root"].draw.__module__ == "page"
    study = compare_losses(
        page["X"],
        page["y"],
        losses=["ce+recall"],
        samplers=["square_root"],
        estimator=page["clf"],
        cv=2,
        random_state=0,
        n_jobs=2,
    )
    (alone,) = (e for e in page["study"].estimates() if (e.loss, e.sampler) == ADDED_PAIR)
    (shared,) = study.estimates()
    assert (shared.mean, shared.std) == (alone.mean, alone.std)


@pytest.mark.usefixtures("page")
def test_the_command_line_knows_the_additions(folder, tmp_path, capsys):
    options = ["--loss", "ce,ce+recall", "--sampler", "square_root", "--module", "two_layers"]
    options += ["--augment", "mild", "--epochs", "1", "--cv", "2", "--csv", str(tmp_path / "csv")]
    assert main(["compare", f"{folder}/", *options]) == 0
    printed = capsys.readouterr().out
    assert "ce+recall" in printed
    assert "square_root" in printed
    assert "ce+recall" in (tmp_path / "csv").read_text()


@pytest.mark.usefixtures("page")
@pytest.mark.parametrize(
    ("options", "known"),
    [
        (["--loss", "ce+recal"], "recall"),
        (["--sampler", "square"], "square_root"),
        (["--module", "three_layers"], "two_layers"),
        (["--augment", "milder"], "mild"),
    ],
)
def test_the_command_line_lists_the_additions(options, known, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["compare", "digits", *options])
    assert stop.value.code == 2
    assert known in capsys.readouterr().err


@pytest.mark.parametrize("parameter", ADDED)
def test_names_that_are_not_there_are_refused_by_name(parameter):
    # As in a process that never added the row.
    X, y = np.zeros((8, 4, 4), "f4"), [0, 1] * 4
    name = ADDED[parameter].removeprefix("ce+")
    row = TABLES[name].pop(name, None)
    try:
        with pytest.raises(ValueError, match=name) as error:
            CNN2DClassifier(**{parameter: ADDED[parameter]}, max_epochs=1).fit(X, y)
    finally:
        if row is not None:
            TABLES[name][name] = row
    assert all(known in str(error.value) for known in TABLES[name])
