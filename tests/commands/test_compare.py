"""skimbal compare."""

import os
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from skimbal import CNN2DClassifier, LossMix
from skimbal.__main__ import main
from skimbal.datasets import load_npz
from skimbal.images import ImageFiles
from skimbal.losses import get_loss
from tests.commands.data import PAIR, StubClassifier, check_refused, images, read_csv, table_of


def test_compare_cross_validates_files(capsys, fits, own):
    assert main(["compare", own, *PAIR]) == 0
    out, _ = capsys.readouterr()
    assert "stratified 5-fold cross-validation, 5 fits each, seed 0." in out
    assert "f1[malignant]" in out
    assert len(fits) == 2 * 5
    classifier, X, y = fits[0]
    assert len(X) == 32
    assert set(y) == {"benign", "malignant"}
    defaults = CNN2DClassifier()
    assert {classifier.loss for classifier, _, _ in fits} == {"ce", "ce+mcc"}
    assert get_loss(classifier.loss).mix.warmup_epochs == LossMix().warmup_epochs
    for name in ("max_epochs", "batch_size", "module", "lr", "device"):
        assert getattr(classifier, name) == getattr(defaults, name), name


def test_a_column_of_patients_that_is_not_used_is_a_conclusion(capsys, fits, folder, table, own):
    unused = ": the {} 'patient' is not used, with values that repeat as patients do. If images of"
    assert main(["compare", own, *PAIR, "--cv", "2"]) == 0
    assert f"Warning{unused.format('array')}" in capsys.readouterr().out
    argv = ["--size", "8", *PAIR, "--cv", "2"]
    assert main(["compare", folder, *table[:4], *argv]) == 0
    assert f"Warning{unused.format('column')}" in capsys.readouterr().out
    assert main(["compare", folder, *table, *argv]) == 0
    assert "is not used" not in capsys.readouterr().out


def test_compare_leaves_the_test_rows_untouched(capsys, fits, split):
    path = split()
    data = load_npz(path)
    assert main(["compare", path, *PAIR, "--cv", "2", "--repeats", "2"]) == 0
    assert (
        "stratified 2-fold cross-validation, 2 repeats of 20 training and 20 validation rows (the "
        "20 test rows are untouched), 4 fits each" in capsys.readouterr().out
    )
    known = {row.tobytes() for row in np.concatenate([data.X_train, data.X_val])}
    seen = {row.tobytes() for _, X, _ in fits for row in X}
    assert seen == known
    assert not seen & {row.tobytes() for row in data.X_test}


def test_compare_on_the_test_rows(capsys, fits, split):
    path = split()
    data = load_npz(path)
    assert main(["compare", path, *PAIR, "--test", "--repeats", "2", "--groups", "site"]) == 0
    assert (
        "fixed test set, 2 seeds; 20 training and 20 test rows (the 20 validation rows are not "
        "used), 2 fits each" in capsys.readouterr().out
    )
    for _, X, _ in fits:
        np.testing.assert_array_equal(X, data.X_train)


def test_compare_keeps_groups_on_one_side(capsys, fits, own):
    patients = {
        image.tobytes(): i // 2 for i, image in enumerate(load_npz(own, groups="patient").X)
    }
    assert main(["compare", own, *PAIR, "--cv", "2", "--groups", "patient"]) == 0
    assert "stratified group 2-fold cross-validation" in capsys.readouterr().out
    trained = [{patients[row.tobytes()] for row in X} for _, X, _ in fits]
    assert all(len(X) == 2 * len(on) for (_, X, _), on in zip(fits, trained, strict=True))
    # Two folds, each fitted with two losses.
    assert sorted(map(sorted, trained)) == sorted(map(sorted, trained[:1] * 2 + trained[-1:] * 2))
    assert not trained[0] & trained[-1]


def test_compare_groups_of_split_files(capsys, fits, split):
    path = split(train=np.arange(20) // 2, val=5 + np.arange(20) // 2, test_site=None)
    assert main(["compare", path, *PAIR, "--cv", "2", "--groups", "site"]) == 0
    data = load_npz(path, groups="site")
    sites = np.concatenate([data.groups_train, data.groups_val])
    rows = np.concatenate([data.X_train, data.X_val])
    site_of = {row.tobytes(): site for row, site in zip(rows, sites, strict=True)}
    first, last = ({site_of[row.tobytes()] for row in X} for _, X, _ in (fits[0], fits[-1]))
    assert first.isdisjoint(last)
    capsys.readouterr()


def test_compare_a_folder_and_a_table(capsys, fits, folder, table):
    argv = ["compare", folder, *table, "--size", "9", "--augment", "paper", "--crop-size", "6"]
    assert main([*argv, *PAIR, "--cv", "2", "--epochs", "1"]) == 0
    assert "stratified group 2-fold cross-validation, 2 fits each" in capsys.readouterr().out
    assert len(fits) == 4
    for classifier, X, y in fits:
        assert isinstance(X, ImageFiles)
        assert X.shape[1:] == (9, 9)
        assert set(y) == {"low", "high"}
        assert (classifier.augment, classifier.crop_size) == ("paper", 6)
        assert classifier.input_shape is None
    first, last = ({int(Path(p).stem) // 4 for p in X.paths} for _, X, _ in (fits[0], fits[-1]))
    assert not first & last


def test_compare_parts_of_a_table(capsys, fits, folder, table):
    table = [*table[:-2], "--split-column", "part"]
    argv = ["compare", folder, *table, *PAIR, "--size", "8", "10", "--resize", "crop"]
    assert main([*argv, "--cv", "2"]) == 0
    note = "of 20 training and 10 validation rows (the 10 test rows are untouched), 2 fits"
    assert note in capsys.readouterr().out
    assert len(fits[0][1]) == 15
    seen = {path for _, X, _ in fits for path in X.paths}
    assert len(seen) == 30
    assert main([*argv, "--test"]) == 0
    assert "; 20 training and 10 test rows (the 10 validation" in capsys.readouterr().out
    assert fits[-1][1].shape == (20, 8, 10)


def test_compare_folders_of_classes(capsys, fits, class_folders):
    path = class_folders("train", "test")
    assert main(["compare", path, *PAIR, "--cv", "2"]) == 0
    assert "of 8 training rows (the 8 test rows are untouched)" in capsys.readouterr().out
    assert main(["compare", path, *PAIR, "--test", "--repeats", "2"]) == 0
    assert "fixed test set, 2 seeds; 8 training and 8 test rows, 2" in capsys.readouterr().out


def test_compare_real_fits_on_files(capsys, folder, table):
    argv = [
        "compare",
        folder,
        *table,
        "--size",
        "12",
        "--augment",
        "flip",
        "--crop-size",
        "8",
        "10",
    ]
    argv += ["--image-cache", "memory", "--cv", "2", "--epochs", "1", "--losses", "ce"]
    assert main([*argv, "--samplers", "balanced"]) == 0
    assert [row[:2] for row in table_of(capsys.readouterr().out)] == [["ce", "balanced"]]


def test_compare_real_fits_on_volumes_of_few_slices(capsys, class_folders):
    # By its numbers alone, such a volume looks as if channels came last.
    path = class_folders("", shape=(8, 8, 3))
    argv = ["compare", path, "--losses", "ce", "--samplers", "uniform", "--cv", "2"]
    assert "--channel-axis must be -1" in check_refused(capsys, *argv)
    assert main([*argv, "--size", "8", "8", "3", "--epochs", "1"]) == 0
    assert "f1[malignant]" in capsys.readouterr().out


@pytest.mark.slow
def test_a_cache_of_files_goes_on_and_knows_changes(capsys, fits, folder, table, tmp_path):
    argv = ["compare", folder, *table, *PAIR, "--cv", "2", "--cache", str(tmp_path / "runs")]
    argv += ["--splits", "none"]
    assert main([*argv, "--size", "8"]) == 0
    first = capsys.readouterr().out
    assert main([*argv, "--size", "8"]) == 0
    assert capsys.readouterr().out == first
    assert len(fits) == 4
    err = check_refused(capsys, *argv, "--size", "9")
    assert "data.X.size (8 there, 9 now)" in err
    image = Path(folder) / "07.npy"
    os.utime(image, ns=(1, 1))  # a copy of the folder has other times
    assert main([*argv, "--size", "8"]) == 0
    assert capsys.readouterr().out == first
    np.save(image, 255 - np.load(image))
    os.utime(image, ns=(1, 1))
    assert "data.X" in check_refused(capsys, *argv, "--size", "8")


def test_compare_passes_everything_on(capsys, fits, own, tmp_path):
    argv = ["--loss", "ce", "--loss", "mcc,ce+0.5*mcc", "--samplers", "stratified,weighted"]
    argv += ["--epochs", "3", "--batch-size", "8", "--lr", "0.01", "--module", "resnet18"]
    argv += ["--device", "auto", "--cv", "2", "--seed", "5", "--baseline", "mcc"]
    argv += ["--scoring", "f1[malignant]", "--csv", str(tmp_path / "t.csv")]
    assert main(["compare", own, *argv]) == 0
    out, _ = capsys.readouterr()
    assert out.startswith("f1[malignant] of 6 configurations:")
    assert "seed 5" in out
    classifier, *_ = fits[0]
    assert main(["compare", own, *PAIR, "--cv", "2", "--lr", "auto"]) == 0
    assert fits[-1][0].lr == "auto"
    for name, value in (
        ("max_epochs", 3),
        ("batch_size", 8),
        ("lr", 0.01),
        ("module", "resnet18"),
        ("device", "auto"),
    ):
        assert getattr(classifier, name) == value
    table = read_csv(tmp_path / "t.csv")
    assert [(row["loss"], row["sampler"], row["reference"]) for row in table[:3]] == [
        ("ce", "stratified", "mcc"),
        ("mcc", "stratified", ""),
        ("ce+0.5*mcc", "stratified", "mcc"),
    ]


def test_compare_takes_every_option_of_the_classifiers(capsys, fits, own):
    argv = ["--micro-batch-size", "4", "--n-tta", "flips", "--width", "8", "--dtype", "float64"]
    argv += ["--standardize", "yes", "--class-weight", "balanced", "--weight-decay", "0.5"]
    argv += ["--lr-schedule", "cosine", "--optimizer", "sgd", "--epoch-length", "uniform"]
    assert main(["compare", own, *PAIR, *argv, "--cv", "2", "--logit-adjustment", "0.5"]) == 0
    capsys.readouterr()
    clf = fits[0][0]
    assert clf.net == {"module__width": 8, "optimizer__weight_decay": 0.5}
    for name, value in (
        ("micro_batch_size", 4),
        ("n_tta", "flips"),
        ("dtype", "float64"),
        ("standardize", True),
        ("class_weight", "balanced"),
        ("lr_schedule", "cosine"),
        ("optimizer", "sgd"),
        ("epoch_length", "uniform"),
        ("logit_adjustment", 0.5),
    ):
        assert getattr(clf, name) == value


def test_compare_default_is_the_papers_fifteen(capsys, fits, own):
    assert main(["compare", own, "--cv", "2"]) == 0
    assert len(table_of(capsys.readouterr().out)) == 15


def test_compare_writes_a_report(capsys, fits, split, tmp_path):
    names = {"train_labels": np.array(["vein", "vein", "artery", "vein"] * 5)}
    names |= {"val_labels": names["train_labels"], "test_labels": names["train_labels"]}
    report = tmp_path / "report.html"
    assert main(["compare", split(**names), *PAIR, "--cv", "2", "--html", str(report)]) == 0
    text = report.read_text(encoding="utf-8")
    for words in ("artery", "vein", "ce+mcc", "the 20 test rows are untouched"):
        assert words in text
    capsys.readouterr()


def test_a_cache_goes_on(capsys, fits, own, tmp_path):
    argv = ["compare", own, *PAIR, "--cv", "2", "--cache", str(tmp_path / "runs")]
    assert main(argv) == 0
    first = capsys.readouterr().out
    assert main(argv) == 0
    assert capsys.readouterr().out == first
    assert len(fits) == 4
    assert main([*argv, "--repeats", "2"]) == 0
    assert "8/8" in capsys.readouterr().err
    assert len(fits) == 8


@pytest.mark.slow
def test_workers_change_nothing(capsys, own):
    argv = ["compare", own, *PAIR, "--epochs", "1", "--cv", "2"]
    assert main(argv) == 0
    alone = capsys.readouterr().out
    assert main([*argv, "--jobs", "2"]) == 0
    assert capsys.readouterr().out == alone


@pytest.mark.filterwarnings("default::UserWarning")
def test_compare_warns_of_copies_first(capsys, fits, make_npz, rng):
    y = np.array([0, 0, 1, 0] * 10)
    X = images(y, rng)
    X[0] = X[1] = X[2] = X[4] = X[5]
    path = make_npz(X=X, y=y)
    assert main(["compare", path, *PAIR, "--cv", "2"]) == 0
    out, err = capsys.readouterr()
    assert "skimbal: UserWarning: 1 picture is in training and test rows" in err
    said = [line for line in out.splitlines() if line.startswith("Warning: ")]
    assert len(said) == 2
    assert "1 picture is in more than one class" in said[1]
    assert main(["compare", path, *PAIR, "--cv", "2", "--no-copy-check"]) == 0
    out, err = capsys.readouterr()
    assert "Warning" not in out + err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("lower\nlr"), "skimbal: error: lower lr\n"),
        (RuntimeError("out of memory"), "skimbal: error: RuntimeError: out of memory\n"),
    ],
)
def test_error_in_a_fit_keeps_what_is_done(capsys, ended, own, tmp_path, error, said):
    ended(error)
    report = tmp_path / "report.html"
    outputs = ["--csv", str(tmp_path / "t.csv"), "--cache", str(tmp_path / "runs")]
    assert main(["compare", own, *PAIR, *outputs, "--html", str(report)]) == 1
    out, err = capsys.readouterr()
    assert said in err
    assert f"skimbal: Finished fits, 2 of them, are in {tmp_path / 'runs'}" in err
    assert "Not complete: 2 of 10 fits are done." in out
    assert len(read_csv(tmp_path / "t.csv")) == 2
    assert "Not complete: 2 of 10 fits are done." in report.read_text(encoding="utf-8")
    for path in (tmp_path / "t.csv", report):
        assert f"skimbal: {path} has the finished fits only. Remove or rename it before" in err


def test_real_error_in_a_fit(capsys, own):
    assert main(["compare", own, *PAIR, "--lr", "1e30", "--epochs", "2", "--cv", "2"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "skimbal: error: DivergenceError: The training" in err
    assert "lr=1e+30" in err
    assert "skimbal: The run ended before its first fit was finished.\n" in err


def test_output_that_becomes_unwritable(capsys, fits, own, tmp_path, monkeypatch):
    folder = tmp_path / "results"
    folder.mkdir()
    predict = StubClassifier.predict_proba

    def remove_and_predict(self, X):
        if folder.exists():
            folder.rmdir()
        return predict(self, X)

    monkeypatch.setattr(StubClassifier, "predict_proba", remove_and_predict)
    assert main(["compare", own, *PAIR, "--csv", str(folder / "t.csv")]) == 1
    out, err = capsys.readouterr()
    assert len(table_of(out)) == 2
    assert f"skimbal: error: {folder / 't.csv'}: " in err


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_report_without_its_libraries(capsys, never, monkeypatch, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    err = check_refused(capsys, "compare", "digits", "--html", str(tmp_path / "report.html"))
    assert re.search(rf"error: --html .*{missing}.*\.\[study\]", err)


def test_foreign_caches(capsys, fits, own, tmp_path):
    cache = tmp_path / "of cv" / "cv"  # a name of an option as a part of a path stays
    argv = ["compare", own, *PAIR, "--cache", str(cache)]
    assert main(argv) == 0
    capsys.readouterr()
    n_fits = len(fits)
    err = check_refused(capsys, *argv, "--epochs", "7")
    assert re.search(f"error: --cache .*{cache}", err)
    assert "estimator.max_epochs (auto there, 7 now)" in err
    assert "seed (0 there, 1 now)" in check_refused(capsys, *argv, "--seed", "1")
    err = check_refused(capsys, *argv[:-1], str(tmp_path))
    assert re.search(f"error: --cache .*{tmp_path}", err)
    err = check_refused(capsys, *argv[:-1], own)
    assert re.search(f"cache_dir .*{own}.*cache_dir is --cache", err)
    assert len(fits) == n_fits
