import csv
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from skorch.history import History

from skimbal import CNN2DClassifier, CollapseWarning, LossMix
from skimbal.__main__ import main
from skimbal.augmentation import RECIPES
from skimbal.datasets import load_npz
from skimbal.images import ImageFiles
from skimbal.losses import TERMS, get_loss
from skimbal.networks import BUILT_IN
from skimbal.sampling import STRATEGIES

ROOT = Path(__file__).parents[1]
QUICK = ("--epochs", "1", "--seeds", "1", "--sampler", "uniform")
OPTIONAL = (
    "PIL",
    "jinja2",
    "matplotlib",
    "nibabel",
    "pandas",
    "pooch",
    "pydicom",
    "tifffile",
    "zarr",
)
PAIR = ("--losses", "ce,ce+mcc", "--sampler", "uniform")


class Record(list):
    """A list that is no part of a classifier, so that a study goes on when it has grown."""

    def __reduce__(self):
        return Record, ()


class StubClassifier(CNN2DClassifier):
    """Takes the brightness of an image for its class; `fits` holds what was fitted."""

    fits: list
    n_epochs_ = n_steps_ = 1
    history_ = History()
    history_.new_epoch()
    history_.record("train_batch_count", 1)

    def fit(self, X, y):
        self.fits.append((self, X, y))
        self.classes_ = np.unique(y)
        loss = get_loss(self.loss, [1, 1])
        if loss.may_collapse and not loss.ce_share(0, 1):
            warnings.warn(f"{loss.name}\ncollapses", CollapseWarning, stacklevel=2)
        return self

    def predict_proba(self, X):
        brightness = np.asarray(X, dtype=float).mean(axis=(1, 2))[:, None] / 100
        odds = np.exp(brightness * np.arange(len(self.classes_)))
        return odds / odds.sum(1, keepdims=True)


@pytest.fixture
def fits(monkeypatch):
    """What a stub in the place of the classifier was fitted with: (classifier, X, y)."""
    monkeypatch.setattr(StubClassifier, "fits", Record(), raising=False)
    monkeypatch.setattr("skimbal.__main__.CNN2DClassifier", StubClassifier)
    return StubClassifier.fits


@pytest.fixture
def never(monkeypatch):
    """No fit is begun."""
    monkeypatch.setattr(
        "skimbal.__main__.CNN2DClassifier.fit", lambda *_: pytest.fail("a fit was begun")
    )


@pytest.fixture
def ended(monkeypatch, fits):
    """Return a function that lets an exception end a fit, the third unless told otherwise."""

    def end(error, at=3):
        fit = StubClassifier.fit

        def fit_or_end(self, X, y):
            if len(fits) == at - 1:
                raise error
            return fit(self, X, y)

        monkeypatch.setattr(StubClassifier, "fit", fit_or_end)

    return end


@pytest.fixture
def make_npz(tmp_path):
    def make(name="my.npz", **arrays):
        np.savez(tmp_path / name, **arrays)
        return str(tmp_path / name)

    return make


def images(y, rng):
    """Images of which those of class 1 are brighter."""
    return rng.integers(0, 100, (len(y), 8, 8), dtype=np.uint8) + 100 * np.uint8(y)[:, None, None]


@pytest.fixture
def own(make_npz, rng):
    """A file without splits: 30 benign and 10 malignant images of 20 patients."""
    y = np.array([0, 0, 1, 0] * 10)
    return make_npz(
        X=images(y, rng), y=np.array(["benign", "malignant"])[y], patient=np.arange(40) // 2
    )


@pytest.fixture
def split(make_npz, rng):
    """Return a function that makes a file with splits of 20 rows, with a site for each."""

    def make(train=range(20), val=range(20, 40), test=range(40, 60), **replaced):
        arrays = {}
        for name, sites in (("train", train), ("val", val), ("test", test)):
            y = np.array([0, 0, 1, 0] * 5)
            arrays |= {f"{name}_images": images(y, rng), f"{name}_labels": y}
            arrays |= {f"{name}_site": np.array(sites)}
        arrays |= replaced
        arrays = {name: array for name, array in arrays.items() if array is not None}
        return make_npz("splits.npz", **arrays)

    return make


@pytest.fixture
def folder(tmp_path, rng):
    """A folder of 40 pictures of several sizes, and a table: 20 patients, 10 of them per split."""
    (tmp_path / "images").mkdir()
    y = np.array([0, 0, 1, 1] * 10)
    lines = ["path,grade,patient,part"]
    for i, image in enumerate(images(y, rng)):
        np.save(tmp_path / "images" / f"{i:02}.npy", np.pad(image, i % 2))
        part = ("train", "train", "val", "test")[i % 2 * 2 + i // 20]
        lines.append(f"{i:02}.npy,{('low', 'high')[y[i]]},p{i // 4},{part}")
    (tmp_path / "labels.csv").write_text("\n".join(lines), encoding="utf-8")
    return str(tmp_path / "images")


@pytest.fixture
def table(folder):
    """The options that name the table and its columns."""
    path = str(Path(folder).parent / "labels.csv")
    return ["--labels", path, "--label-column", "grade", "--group-column", "patient"]


@pytest.fixture
def class_folders(tmp_path, rng):
    """Return a function that makes a folder for each class in each of some parts."""

    def make(*parts, shape=(8, 8), n=4):
        root = tmp_path / "classes"
        for part in parts:
            for k, label in enumerate(("benign", "malignant")):
                (root / part / label).mkdir(parents=True)
                for i in range(n):
                    image = rng.integers(0, 100, shape, dtype=np.uint8) + np.uint8(100 * k)
                    np.save(root / part / label / f"{i}.npy", image)
        return str(root)

    return make


def check_refused(capsys, *argv):
    """Check that the arguments end the program with code 2, and return its line of error."""
    with pytest.raises(SystemExit) as stop:
        main(argv)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    assert out == ""
    assert err.startswith("skimbal: error: ")
    assert err.count("\n") == 1
    return err


def table_of(out):
    """Return the rows of the first table."""
    lines = out.splitlines()
    return [line.split() for line in lines[3 : lines.index("", 3)]]


def read_csv(path):
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


# ---- the default run


def test_real_fits(capsys):
    assert main([*QUICK, "--loss", "ce", "--loss", "ce+mcc"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(
        "balanced accuracy of 2 configurations: fixed test set, 1 seed; 518 training and 216 test "
        "rows (the 130 validation rows are not used), 1 fit each, seed 0.\n"
    )
    for column in ("balanced accuracy", "macro F1", "MCC", "AUC", "f1[other]", "f1[eight]"):
        assert column in out
    assert [row[:2] for row in table_of(out)] == [["ce", "uniform"], ["ce+mcc", "uniform"]]
    assert "one fit each, so there is no spread" in out
    assert "2/2" in err


def test_real_volumes(capsys, data_dir, tmp_path):
    data = load_npz(data_dir / "vesselmnist3d" / "vesselmnist3d.npz")
    arrays = {}
    for name in ("train", "val", "test"):
        arrays[f"{name}_images"] = data[f"X_{name}"][::10, ::2, ::2, ::2]
        arrays[f"{name}_labels"] = data[f"y_{name}"][::10]
    np.savez(tmp_path / "vessels.npz", **arrays)
    assert main([*QUICK, "--loss", "ce", "--data", str(tmp_path / "vessels.npz")]) == 0
    assert "f1[0]" in capsys.readouterr().out


def test_default_run_compares_the_losses_as_they_were_proposed(capsys, fits):
    assert main([]) == 0
    pairs = [row[:2] for row in table_of(capsys.readouterr().out)]
    losses = ["ce", "focal", "f1", "mcc", "ce+f1", "ce+mcc"]
    assert pairs == [[loss, sampler] for sampler in ("uniform", "balanced") for loss in losses]
    assert len(fits) == 12 * 3
    for classifier, X, _ in fits:
        assert classifier.loss.warmup_epochs == 0
        assert classifier.max_epochs == 8
        assert len(X) == 518


def test_table_and_csv_hold_the_same_numbers(capsys, fits, tmp_path):
    output = tmp_path / "table.csv"
    assert main(["--loss", "ce", "--loss", "ce+mcc", "--output", str(output)]) == 0
    rows = table_of(capsys.readouterr().out)
    table = read_csv(output)
    assert [(row["loss"], row["sampler"], row["n_fits"]) for row in table] == [
        (loss, sampler, "3") for sampler in ("uniform", "balanced") for loss in ("ce", "ce+mcc")
    ]
    for printed, row in zip(rows, table, strict=True):
        assert printed[2] == f"{float(row['mean_balanced_accuracy']):.3f}"
        assert printed[4] == f"{float(row['std_balanced_accuracy']):.3f}"
    assert [row["reference"] for row in table] == ["", "ce", "", "ce"]
    assert 0 <= float(table[0]["mean_f1[nine]"]) <= 1


# ---- skimbal compare


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
    patients = {image.tobytes(): i // 2 for i, image in enumerate(load_npz(own).X)}
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


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (["--intensity", "window"], "--intensity must be None, 'stored'"),
        (["--intensity", "40"], "--intensity must be None, 'stored'"),
        (["--intensity", "240", "-160"], "the lower first; got (240.0, -160.0)"),
        (["--channel-axis", "5"], "--channel-axis must be an axis"),
    ],
)
def test_options_for_scale_axes_and_limits_are_checked(capsys, folder, table, option, words):
    assert words in check_refused(capsys, "compare", folder, *table, *option)


def test_scale_and_axes_of_files_are_options(capsys, class_folders):
    path = class_folders("", shape=(8, 8, 3))
    for intensity in (["full_range"], ["percentiles"], ["-10", "300"]):
        argv = ["info", path, "--channel-axis", "-1", "--intensity", *intensity]
        assert main([*argv, "--max-pixels", "192"]) == 0
        assert "used as   3 x 8 x 8, float32" in capsys.readouterr().out


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


def test_files_that_are_skipped_are_told_in_a_line(capsys, fits, folder, table):
    (Path(folder) / "03.npy").write_bytes(b"damaged")
    argv = ["compare", folder, *table, "--size", "8", *PAIR, "--cv", "2"]
    assert "03.npy" in (err := check_refused(capsys, *argv))
    assert "--on-error skip" in err
    assert main([*argv, "--on-error", "skip"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert (
        sum(line.startswith("skimbal: UserWarning: skipped 1 of 40 files") for line in lines) == 1
    )
    assert len(fits[0][1]) in (19, 20)


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


# ---- skimbal info


def test_info_of_a_file(capsys, never, own):
    assert main(["info", own, "--groups", "patient"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "my: 40 2D images of 2 classes"
    assert " ".join(lines[1:3]).startswith(f"file {own}, {os.path.getsize(own):,} bytes")
    assert "Loads. All images can be read." in lines
    assert (
        lines[-5:]
        == [
            "class                      all",
            "benign                     30 (75 %)",
            "malignant                  10 (25 %)",
            "all                        40",
            "largest to smallest class  3.0 : 1",
            "groups                     20",
        ][-5:]
    )


def test_info_of_splits(capsys, never, split):
    path = split(train=np.arange(20), val=np.arange(20, 40), test=np.arange(15, 35) // 2)
    assert main(["info", path, "--groups", "site"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].split() == ["groups", "20", "20", "11"]
    # Sites 7 to 17, all of which are training rows.
    assert "groups, such as '10', are in train and in test." in out
    assert main(["info", split(test_site=None), "--groups", "site"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1].split() == ["groups", "20", "20", "0"]
    assert "WARNING" not in out


def test_info_of_a_folder(capsys, never, folder, table):
    argv = ["info", folder, *table, "--split-column", "part", "--size", "8"]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[0] == "images: 40 2D images of 2 classes"
    assert "size      8 x 8 (20), 10 x 10 (20)" in lines
    assert "used as   8 x 8, float32" in lines
    assert re.search("- 5 groups, such as 'p.', are in train and in test\\.", out)
    assert lines[-1].split() == ["groups", "10", "5", "5"]
    assert err == ""  # no bar without a terminal


def test_info_of_a_folder_that_is_refused(capsys, never, folder, table):
    (Path(folder) / "03.npy").write_bytes(b"damaged")
    (Path(folder) / "lost.npy").write_bytes((Path(folder) / "02.npy").read_bytes())
    assert main(["info", folder, *table]) == 2
    out = capsys.readouterr().out
    assert "REFUSED, for 3 reasons" in out
    assert "lost.npy: an image without a label" in out
    assert "03.npy: " in out
    assert "--size must be given for images of different shapes (00.npy has" in out
    assert "by --resize resample or --resize crop." in " ".join(out.split())
    assert main(["info", folder, *table, "--on-error", "skip", "--size", "8"]) == 0
    out = capsys.readouterr().out
    assert "Loads. 1 file is skipped." in out
    assert "lost.npy: an image without a label" in out


def test_info_words_warnings_in_options(capsys, tmp_path):
    for i, name in enumerate("aabb"):
        (tmp_path / name).mkdir(exist_ok=True)
        np.save(tmp_path / name / f"{i}.npy", np.full((8, 8), 10.0 ** (2 * i)) + np.eye(8))
    assert main(["info", str(tmp_path)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "may have different scales" in out
    assert "For files, --intensity brings them to one scale" in out


def test_info_of_headers_only(capsys, never, folder, table):
    whole = (Path(folder) / "03.npy").read_bytes()
    with warnings.catch_warnings(action="error"):
        assert main(["info", folder, *table, "--size", "8", "--quick"]) == 0
    out = capsys.readouterr().out
    assert "Loads. Pixels were not read." in out
    assert "copies" not in out
    (Path(folder) / "03.npy").write_bytes(whole[:20])
    assert main(["info", folder, *table, "--size", "8", "--quick"]) == 2


def test_info_of_the_digits(capsys, never):
    assert main(["info", "digits"]) == 0
    out = capsys.readouterr().out
    assert "license   CC BY 4.0" in out
    assert "eight                      43 (8 %)    11 (8 %)    18 (8 %)" in out


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_info_suits_the_output(monkeypatch, class_folders, tmp_path, encoding):
    root = Path(class_folders(""))
    image = np.load(root / "benign" / "0.npy")
    np.save(root / "benign" / "caf\xe9\x1b[31m.npy", image)
    with (tmp_path / "out.txt").open("w", encoding=encoding) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert main(["info", str(root)]) == 0
    text = (tmp_path / "out.txt").read_bytes().decode(encoding)
    assert max(map(len, text.splitlines())) <= 80
    assert r"\x1b[31m.npy" in text
    assert ("caf\xe9" in text) == (encoding == "utf-8")
    assert text.isascii() == (encoding != "utf-8")


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


# ---- what goes wrong in fits


def test_collapse_warning_is_one_line_once(capsys, fits):
    assert main(["--loss", "f1", "--loss", "mcc"]) == 0
    err = capsys.readouterr().err
    assert err.count("CollapseWarning") == 1
    assert "skimbal: CollapseWarning: f1 collapses\n" in err


def test_interrupt_keeps_what_is_done(capsys, ended, tmp_path):
    output = tmp_path / "table.csv"
    ended(KeyboardInterrupt())
    argv = ["--seeds", "2", "--loss", "ce", "--loss", "ce+mcc", "--output", str(output)]
    assert main(argv) == 130
    out = capsys.readouterr().out
    assert [row[:2] for row in table_of(out)] == [["ce", "uniform"], ["ce+mcc", "uniform"]]
    assert "Not complete: 2 of 8 fits are done." in out
    assert [row["n_fits"] for row in read_csv(output)] == ["1", "1"]


def test_interrupt_in_the_first_fit(capsys, ended, tmp_path):
    ended(KeyboardInterrupt(), at=1)
    output = tmp_path / "table.csv"
    assert main(["--output", str(output)]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert "skimbal: The run ended before its first fit was finished.\n" in err
    assert not output.exists()


def test_interrupt_while_loading(capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr("skimbal.__main__.load_imbalanced_digits", interrupt)
    assert main(["info", "digits"]) == 130
    assert capsys.readouterr() == ("", "")


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


# ---- what is refused before any fit


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--loss", "hinge"], "error: --loss .*hinge"),
        (["--loss", "ce+-1*mcc"], "error: --loss .*-1"),
        (["--sampler", "none"], "error: --sampler .*'balanced', 'stratified', 'weighted'.*'none'"),
        (["--seeds", "0"], "--seeds: .* 1; got '0'"),
        (["--epochs", "-1"], "--epochs: .* 1; got '-1'"),
        (["--batch-size", "0"], "--batch-size: must be auto or .* 1; got '0'"),
        (["--batch-size", "2.5"], "--batch-size: .*'2.5'"),
        (["--module", "vgg"], "--module: .*'vgg'.*resnet18"),
        (["--data", "cifar"], "--data cifar: .*pneumoniamnist.*'cifar'"),
        (["--data", "vesselmnist3d_128"], "--data vesselmnist3d_128: .*28.*64.*128"),
        (["--data", "absent.npz"], "error: --data absent.npz must be an npz file that exists"),
        (["--device", "abacus"], "error: --device .*'abacus'"),
        # An index that no machine has, so that the test says the same on machines with CUDA.
        (["--device", "cuda:99"], "error: --device .*'cuda:99'"),
        (["--output", "absent/table.csv"], "error: --output .*'absent/table.csv'"),
        (["--frobnicate"], "--frobnicate"),
        (["comapre"], "command .*compare.*info.*'comapre'"),
        (["compare"], "DATA"),
        (["info"], "DATA"),
        (["compare", "absent.npz"], "error: absent.npz must be an npz file that exists"),
        (
            ["info", "absent.npz", "--groups", "site"],
            "error: absent.npz must be an npz file that exists",
        ),
        (["compare", "digits", "--groups", "site"], "--groups .*'site'.*digits"),
        (["compare", "digits", "--losses", "ce,hinge"], "error: --loss .*hinge"),
        (["compare", "digits", "--losses", "ce,"], "error: --loss .*''"),
        (["compare", "digits", "--samplers", "uniform,x"], "error: --sampler .*'x'"),
        (["compare", "digits", "--baseline", "x"], "error: --baseline .*ce.*'x'"),
        (["compare", "digits", "--scoring", "x"], "error: --scoring .*balanced_accuracy.*'x'"),
        (["compare", "digits", "--scoring", "f1"], "error: --scoring .*eight.*'f1'"),
        (["compare", "digits", "--device", "cuda:99"], "error: --device .*'cuda:99'"),
        (["compare", "digits", "--cv", "1"], "error: --cv .*2.* got 1"),
        (["compare", "digits", "--cv", "55"], "error: --cv .*54.*eight.*55"),
        (["compare", "digits", "--cv", "3", "--test"], "--cv .*--test"),
        (["compare", "digits", "--repeats", "0"], "--repeats: .* 1; got '0'"),
        (["compare", "digits", "--jobs", "0"], "--jobs: .* 1; got '0'"),
        (["compare", "digits", "--lr", "0"], "--lr: must be auto or .* 0; got '0'"),
        (["compare", "digits", "--lr", "fast"], "--lr: .*'fast'"),
        (["compare", "digits", "--seed", "-1"], "--seed"),
        (["compare", "digits", "--seed", str(2**32)], "--seed: .*4294967296"),
        (["compare", "digits", "--csv", "absent/t.csv"], "error: --csv .*'absent/t.csv'"),
        (["compare", "digits", "--html", "absent/t.html"], "error: --html .*'absent/t.html'"),
        (["compare", "digits", "--html", "new.x", "--csv", "./new.x"], "--html .*--csv .*new.x"),
    ],
)
def test_wrong_arguments(capsys, never, argv, said):
    assert re.search(said, check_refused(capsys, *argv))


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ([], "--size .*--resize"),
        (["--size", "8", "8", "8"], r"error: --size .*\(8, 8, 8\)"),
        (["--size", "8", "--spacing", "1"], "--resize"),
        (["--size", "0"], "--size: .* 1; got '0'"),
        (["--spacing", "x"], "--spacing: .* 0; got 'x'"),
        (["--size", "8", "--groups", "patient"], "--groups .*'patient'.*{folder}.*--labels"),
        (["--size", "8", "--label-column", "label"], "error: --label-column .*grade.*'label'"),
        (["--size", "8", "--split-column", "patient"], "--group-column must be another column"),
        (["--size", "8", "--splits", "a=b"], "--splits: must be none, or NAME=PART.*'a=b'"),
        (["--size", "8", "--spatial-axes", "2"], "--spatial-axes is for .npz files.*folder"),
        (["--size", "8", "--encoding", "utf-16"], "{folder}.*|--labels must be .*UTF-16"),
        (["--size", "8", "--split-column", "site"], "error: --split-column .*grade.*'site'"),
        (["--size", "8", "--test", "--splits", "none"], "{folder} .*test split"),
        (["--size", "8", "--splits", "none", "--crop-size", "9"], "error: --crop-size .*9"),
        (
            ["--size", "8", "--splits", "none", "--crop-size", "4", "4", "4"],
            r"error: --crop-size .*\(4, 4, 4\)",
        ),
        (["--augment", "mixup"], "--augment: .*'mixup'.*paper"),
    ],
)
def test_wrong_arguments_for_folders(capsys, never, folder, table, argv, said):
    err = check_refused(capsys, "compare", folder, *table, *argv)
    assert re.search(said.replace("{folder}", re.escape(folder)), err)


def test_patients_on_both_sides_of_a_split_are_told_and_refused(capsys, never, folder, table):
    argv = ["compare", folder, *table, "--size", "8", "--split-column", "part", "--test"]
    with pytest.raises(SystemExit):
        main(argv)
    err = capsys.readouterr().err
    assert re.search("^skimbal: UserWarning: .*5 groups", err, re.MULTILINE)
    assert re.search("^skimbal: error: .*5 group", err, re.MULTILINE)


def test_rows_that_a_user_added_to_the_tables_are_known(capsys, monkeypatch, own):
    monkeypatch.setitem(STRATEGIES, "as they come", STRATEGIES["uniform"])
    monkeypatch.setitem(RECIPES, "mirror", RECIPES["flip"])
    monkeypatch.setitem(BUILT_IN, "tiny", BUILT_IN["small"])
    monkeypatch.setitem(TERMS, "soft", TERMS["mcc"])
    argv = ["--losses", "ce+soft", "--samplers", "as they come", "--augment", "mirror"]
    argv += ["--module", "tiny", "--epochs", "1", "--cv", "2"]
    assert main(["compare", own, *argv]) == 0
    assert [row[0] for row in table_of(capsys.readouterr().out)] == ["ce+soft"]
    with pytest.raises(SystemExit):
        main(["compare", "--help"])
    shown = capsys.readouterr().out
    for name in ("as they come", "mirror", "tiny"):
        assert name in " ".join(shown.split())


def test_folders_that_are_missing(capsys, never, folder, own):
    err = check_refused(capsys, "compare", folder, "--group-column", "patient")
    assert re.search("error: --group-column .*--labels", err)
    err = check_refused(capsys, "compare", own, "--size", "8")
    assert re.search(f"--size .*{re.escape(own)}", err)
    assert "error: absent/images: " in check_refused(capsys, "compare", "absent/images")
    assert f"'skimbal compare {folder}'" in check_refused(capsys, "--data", folder)


def test_names_of_data_sets_come_before_folders(capsys, never, monkeypatch, tmp_path):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(["info", "digits"]) == 0
    assert "digits: 864 2D images" in capsys.readouterr().out
    assert "digits/: " in check_refused(capsys, "compare", "digits/")
    assert main(["info", "digits/"]) == 2
    assert "digits must hold images with labels" in capsys.readouterr().out


def test_broken_file(capsys, tmp_path):
    path = tmp_path / "broken.npz"
    path.write_bytes(b"PK")
    assert f"error: --data {path} must be an npz file, " in check_refused(
        capsys, "--data", str(path)
    )


@pytest.mark.parametrize("argv", [["--data"], ["compare"], ["info"]])
@pytest.mark.parametrize(
    "change",
    [
        {"y": np.array([0.5, 1.0] * 4)},
        {"y": np.array(["a", None] * 4)},
        {"y": np.zeros(7)},
        {"z": np.zeros(8)},
        {"X": np.zeros((8, 9))},
        {"X_train": np.zeros((8, 9, 9))},
        {},
    ],
)
def test_errors_name_a_file_once(capsys, never, make_npz, argv, change):
    arrays = {"X": np.zeros((8, 9, 9)), "y": np.arange(8) % 2, **change}
    if "z" in change:
        del arrays["X"]
    path = make_npz(**arrays)
    if not change:
        data = bytearray(Path(path).read_bytes())
        data[len(data) // 3] ^= 255
        Path(path).write_bytes(data)
    err = check_refused(capsys, *argv, path)
    assert err.split("error: ", 1)[1].count(path) == 1


@pytest.mark.parametrize(
    "argv",
    [("--output",), ("compare", "digits", "--csv"), ("compare", "digits", "--html")],
)
def test_output_is_never_overwritten(capsys, never, tmp_path, argv):
    path = tmp_path / "mine"
    path.write_text("mine", encoding="utf-8")
    err = check_refused(capsys, *argv, str(path))
    assert re.search(f"error: {argv[-1]} .*{re.escape(str(path))}.*File exists", err)
    assert path.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_report_without_its_libraries(capsys, never, monkeypatch, tmp_path, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    err = check_refused(capsys, "compare", "digits", "--html", str(tmp_path / "report.html"))
    assert re.search(rf"error: --html .*{missing}.*skimbal\[study\]", err)


def test_files_without_a_test_split(capsys, never, own):
    for argv in (["--data", own], ["compare", own, "--test"]):
        assert f"{own} has no test split" in check_refused(capsys, *argv)


def test_one_class(capsys, never, make_npz):
    path = make_npz(X=np.zeros((4, 8, 8)), y=np.zeros(4, int))
    assert f"{path}: y must be labels of at least 2 classes" in check_refused(
        capsys, "compare", path
    )


@pytest.mark.parametrize(
    ("option", "shape"), [("--channel-axis -1", (4, 16, 16)), ("--spatial-axes 3", (16, 16, 4))]
)
def test_axes_of_a_file_that_are_not_clear(capsys, make_npz, rng, option, shape):
    y = np.array(["a", "b"] * 4)
    path = make_npz(X=rng.integers(0, 9, (8, 16, 16, 4), dtype=np.uint8), y=y)
    err = check_refused(capsys, "compare", path)
    assert "Pass --channel-axis -1 if channels come last, --channel-axis 0 if" in err
    assert "or --spatial-axes 3 for volumes" in err
    argv = ["compare", path, *option.split(), "--losses", "ce", "--sampler", "uniform"]
    assert main([*argv, "--module", "small", "--cv", "2", "--epochs", "1"]) == 0
    capsys.readouterr()
    assert main(["info", path, *option.split()]) == 0
    assert f"{len(shape) if shape[-1] == 4 else 2}D" in capsys.readouterr().out


def test_classes_of_a_file_are_its_labels(capsys, make_npz):
    path = make_npz(X=np.zeros((5, 8, 8), np.uint8), y=np.array([0, 0, 0, 10**12, 10**12]))
    assert main(["info", path]) == 0
    out = capsys.readouterr().out
    assert "1000000000000" in out
    assert "1.5 : 1" in out


def test_labels_that_a_table_spells_as_missing(capsys, fits, folder):
    table = Path(folder).parent / "labels.csv"
    table.write_text(table.read_text().replace("low", "none"))
    argv = ["compare", folder, "--labels", str(table), "--label-column", "grade", *PAIR]
    argv += ["--size", "8", "--cv", "2", "--splits", "none"]
    err = check_refused(capsys, *argv)
    assert "'none', which stands for a missing value" in err
    assert "pass --missing-values ''" in err
    assert main([*argv, "--missing-values", ""]) == 0
    assert set(fits[-1][2]) == {"none", "high"}
    capsys.readouterr()


def test_groups_on_both_sides(capsys, never, split):
    path = split(test=range(17, 37))
    argv = ["compare", path, "--test", "--groups", "site"]
    err = check_refused(capsys, *argv)
    assert re.search(f"error: {path}: groups_test .*3.*group", err)
    assert "such as 17" in err
    assert "no array test_site" in check_refused(
        capsys, *["compare", split(test_site=None), "--test", "--groups", "site"]
    )


def test_groups_that_are_not_there(capsys, never, own):
    err = check_refused(capsys, "compare", own, "--groups", "hospital")
    assert re.search("--groups .*hospital", err)
    assert "X, y, patient" in err


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


# ---- help and documentation


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--help"], ["skimbal compare DATA", "skimbal info DATA", "--seeds", "Ctrl-C"]),
        (["compare", "--help"], ["DATA", "--groups", "X|auto", "default: auto", "Ctrl-C"]),
        (["info", "--help"], ["DATA", "--groups", "Nothing is fitted"]),
        (["--version"], ["skimbal "]),
    ],
)
def test_help_and_version(capsys, argv, said):
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 0
    out = " ".join(capsys.readouterr().out.split())
    for words in said:
        assert words in out


@pytest.mark.parametrize("command", [[], ["compare"], ["info"]])
def test_every_option_is_documented(capsys, command):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    options = set(re.findall(r"--[a-z][a-z-]*", capsys.readouterr().out))
    documented = (ROOT / "docs" / "command_line.rst").read_text(encoding="utf-8")
    assert {option for option in options if option not in documented} <= {"--version"}


@pytest.mark.slow
def test_documented_commands_run(capsys, fits, monkeypatch, own, split, folder, tmp_path):
    monkeypatch.chdir(tmp_path)
    sites = {f"{name}_patient": np.arange(20) + start for name, start in (("train", 0), ("val", 9))}
    split(**sites, test_patient=np.arange(50, 70))
    lines = [
        line.strip()
        for page in ("README.md", "docs/command_line.rst")
        for line in (ROOT / page).read_text(encoding="utf-8").splitlines()
        if re.match(r"\s*skimbal( compare| info| -|$)", line)
    ]
    assert len(lines) == 13
    for line in dict.fromkeys(lines):
        assert main(shlex.split(line)[1:]) == 0, capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *("first", "images", "labels.csv", "my.npz", "report.html", "runs"),
        *("scores.csv", "splits.npz", "table.csv"),
    ]


def test_import_and_compare_need_no_extra(own, tmp_path):
    argv = ["compare", own, *PAIR, "--cv", "2", "--epochs", "1", "--csv", str(tmp_path / "t.csv")]
    # As if they were not installed: scikit-learn and torch look for them, each in its own way.
    script = f"""
import builtins, sys
from importlib.machinery import PathFinder
class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        absent = name.partition(".")[0] in {OPTIONAL}
        return None if absent else super().find_spec(name, path, target)
sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
asked, plain_import = [], builtins.__import__
def spy(name, globals=None, *args, **kwargs):
    if (globals or {{}}).get("__name__", "").partition(".")[0] == "skimbal":
        asked.append(name.partition(".")[0])
    return plain_import(name, globals, *args, **kwargs)
builtins.__import__ = spy
from skimbal.__main__ import main
builtins.__import__ = plain_import
print(*sorted(set(asked)))
sys.exit(main({argv!r}))
"""
    done = subprocess.run(
        # An epoch may end in one class.
        [sys.executable, "-W", "error", "-W", "ignore:The network predicted one", "-c", script],
        cwd=ROOT,
        env=os.environ | {"PYTHONIOENCODING": "utf-8"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    asked, _, out = done.stdout.partition("\n")
    assert {"numpy", "sklearn", "skorch", "torch"} <= set(asked.split())
    assert not set(asked.split()) & set(OPTIONAL)
    assert "ce+mcc" in out
    assert (tmp_path / "t.csv").is_file()


@pytest.fixture
def closed_pipe():
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        yield stream


def test_output_that_is_closed_early_is_not_an_error(capsys, monkeypatch, closed_pipe):
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", closed_pipe)
        assert main(["info", "digits"]) == 141
        # Python flushes the rest at its end.
        print("the rest", flush=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.slow
def test_output_that_is_closed_early_is_not_an_error_of_the_program(closed_pipe):
    done = subprocess.run(
        [sys.executable, "-m", "skimbal", "info", "digits"],
        cwd=ROOT,
        stdout=closed_pipe,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.slow
def test_default_run_takes_less_than_two_minutes():
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"}
    # Processor time, which on one thread is what a clock shows where nothing else runs.
    before = os.times()
    done = subprocess.run(
        [sys.executable, "-m", "skimbal"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    after = os.times()
    spent = after.children_user + after.children_system
    assert spent - before.children_user - before.children_system < 120
    assert len(table_of(done.stdout)) == 12
