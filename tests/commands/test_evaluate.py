"""skimbal evaluate and skimbal export."""

import re

import numpy as np
import pytest

import skimbal
from skimbal import CNN2DClassifier
from skimbal.__main__ import main
from skimbal.datasets import load_npz
from skimbal.evaluation import evaluate
from tests.commands.data import check_refused, images


def fit(path, y, **params):
    """Write a model that knows the brightness of an image, and return its path as text."""
    X = images(np.unique(y, return_inverse=True)[1], np.random.default_rng(1))
    clf = CNN2DClassifier(module="small", max_epochs=1, random_state=0, **params)
    clf.fit(X, y).save(path)
    return str(path)


@pytest.fixture(scope="module")
def by_name(tmp_path_factory):
    """A model of benign and malignant images."""
    y = np.array(["benign", "malignant"])[np.arange(20) % 2]
    return fit(tmp_path_factory.mktemp("names") / "model.skimbal", y)


@pytest.fixture(scope="module")
def by_number(tmp_path_factory):
    """A model of the classes 0 and 1."""
    return fit(tmp_path_factory.mktemp("numbers") / "model.skimbal", np.arange(20) % 2)


def test_evaluate_is_the_evaluation_of_python(capsys, by_name, make_npz, rng, tmp_path):
    y = np.array([0, 0, 1, 1, 0, 0, 0, 0] * 5)
    own = make_npz(
        X=images(y, rng), y=np.array(["benign", "malignant"])[y], patient=np.arange(40) // 2
    )
    table = tmp_path / "scores.csv"
    argv = ["--groups", "patient", "--csv", str(table), "--bootstraps", "50", "--seed", "2"]
    assert main(["evaluate", by_name, own, *argv, "--pool", "max", "--stratify"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{own}: 40 rows\n")
    data = load_npz(own, groups="patient")
    expected = evaluate(
        skimbal.load(by_name),
        data.X,
        data.y,
        groups=data.groups,
        pool="max",
        n_bootstraps=50,
        stratify=True,
        random_state=2,
    )
    assert expected.summary() in out
    assert "50 bootstrap samples make rough intervals" in out
    expected.to_csv(tmp_path / "expected.csv")
    assert table.read_bytes() == (tmp_path / "expected.csv").read_bytes()


def test_patients_of_two_classes(capsys, by_name, own):
    argv = ["evaluate", by_name, own, "--groups", "patient", "--bootstraps", "20"]
    assert "pass --pool none, which leaves out" in check_refused(capsys, *argv)
    assert main([*argv, "--pool", "none"]) == 0
    assert "40 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], "20 test rows (the 20 training rows and the 20 validation rows are untouched)"),
        (["--parts", "val"], "20 validation rows (the 20 training rows and the 20 test rows"),
    ],
)
def test_evaluate_judges_the_test_rows(capsys, by_number, split, parts, said):
    argv = [*parts, "--groups", "site", "--bootstraps", "20"]
    assert main(["evaluate", by_number, split(), *argv]) == 0
    assert said in capsys.readouterr().out


def test_evaluate_has_names_where_the_model_has_names(capsys, tmp_path):
    path = tmp_path / "model.skimbal"
    argv = ["--module", "small", "--epochs", "1", "--epoch-length", "2", "--output", str(path)]
    assert main(["fit", "digits", *argv]) == 0
    assert main(["evaluate", str(path), "digits", "--bootstraps", "20"]) == 0
    out = capsys.readouterr().out
    assert "216 test rows" in out
    assert "eight" in out


def test_evaluate_a_folder_is_read_as_the_fit(capsys, class_folders, tmp_path):
    path = tmp_path / "model.skimbal"
    root = class_folders("train", "test", shape=(12, 10))
    argv = ["--size", "8", "--module", "small", "--epochs", "1", "--output", str(path)]
    assert main(["fit", root, *argv]) == 0
    judge = next(
        line.partition("skimbal ")[2].partition(" --html")[0].split()
        for line in capsys.readouterr().out.splitlines()
        if "skimbal evaluate" in line
    )
    assert main([*judge, "--bootstraps", "20"]) == 0
    assert "8 test rows (the 8 training rows are untouched)" in capsys.readouterr().out
    assert main(["evaluate", str(path), f"{root}/test", "--bootstraps", "20"]) == 0
    assert "8 rows" in capsys.readouterr().out
    for option, said in (
        (["--size", "8"], "--size is not an option of skimbal evaluate. Images are read as"),
        (["--channel-axis", "0"], "--channel-axis is for .npz files"),
        (["--groups", "site"], "--groups is for .npz files"),
        (["--parts", "val"], "--parts must be of train, test"),
    ):
        assert said in check_refused(capsys, "evaluate", str(path), root, *option)


def test_evaluate_writes_a_report(capsys, by_name, own, tmp_path):
    report = tmp_path / "report.html"
    argv = ["--html", str(report), "--bootstraps", "20"]
    assert main(["evaluate", by_name, own, *argv]) == 0
    page = report.read_text(encoding="utf-8")
    for words in ("malignant", f"<dd>{by_name}</dd>", f"<dd>{own}: 40 rows</dd>"):
        assert words in page
    capsys.readouterr()
    assert "File exists" in check_refused(capsys, "evaluate", by_name, own, *argv)


def test_labels_that_the_model_does_not_know(capsys, by_name, by_number, make_npz, own, rng):
    y = np.arange(8) % 2
    path = make_npz(X=images(y, rng), y=np.array(["benign", "borderline"])[y])
    err = check_refused(capsys, "evaluate", by_name, path)
    assert re.search(f"error: {path}.*'borderline'", err)
    assert re.search("'?benign", check_refused(capsys, "evaluate", by_number, own))


def test_classes_without_an_image_are_named(capsys, tmp_path, own):
    y = np.array(["benign", "malignant", "absent"])[np.arange(21) % 3]
    path = fit(tmp_path / "model.skimbal", y)
    assert main(["evaluate", path, own, "--bootstraps", "20"]) == 0
    assert "no image of the class 'absent'" in capsys.readouterr().out


def test_a_folder_of_one_class(capsys, by_name, rng, tmp_path):
    (tmp_path / "test" / "benign").mkdir(parents=True)
    for i in range(12):
        image = rng.integers(0, 100, (8, 8), dtype=np.uint8)
        np.save(tmp_path / "test" / "benign" / f"train-{i:03}.npy", image)
    assert main(["evaluate", by_name, str(tmp_path / "test"), "--bootstraps", "20"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "no image of the class 'malignant'" in out
    assert "intervals are too short. Give --labels and --group-column." in out
    assert "groups=" not in out


def test_notes_name_the_options_of_files(capsys, by_name, own):
    assert main(["evaluate", by_name, own, "--bootstraps", "20"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "intervals are too short. Give --groups NAME." in out
    assert "groups=" not in out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["digits", "--csv", "absent/t.csv"], "error: --csv .*'absent/t.csv'"),
        (["digits", "--html", "x", "--csv", "./x"], "--html and --csv must be two files"),
        (["digits", "--pool", "min"], "--pool: .*'min'"),
        (["digits", "--bootstraps", "0"], "--bootstraps: .* 1; got '0'"),
        (["digits", "--bootstrap", "9", "--sed", "3"], "Did you mean --seed"),
        (["absent.npz"], "absent.npz must be an npz file that exists"),
        (["digits", "--parts", "tset"], "--parts must be of train, val, test"),
        ([], "TEST"),
    ],
)
def test_evaluate_refuses_before_any_work(capsys, monkeypatch, by_name, argv, said, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert re.search(said, check_refused(capsys, "evaluate", by_name, *argv))


def test_groups_that_the_test_rows_lack(capsys, by_number, split):
    err = check_refused(capsys, "evaluate", by_number, split(test_site=None), "--groups", "site")
    assert "has no array of this name for test" in err


def test_patients_on_both_sides_are_noted(capsys, by_number, split):
    argv = ["--groups", "site", "--bootstraps", "20"]
    assert main(["evaluate", by_number, split(), *argv]) == 0
    assert "in other parts" not in " ".join(capsys.readouterr().out.split())
    assert main(["evaluate", by_number, split(test=range(38, 58)), *argv]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "- 2 groups, such as '38', have rows in other parts of the data, too." in words


def test_rows_without_a_test_part(capsys, by_number, split):
    path = split(test_images=None, test_labels=None, test_site=None)
    err = check_refused(capsys, "evaluate", by_number, path)
    assert f"{path} has no test rows; got train, val. Name other rows" in err


@pytest.mark.parametrize(
    ("shape", "said"), [((9, 9), "(1, 9, 9)"), ((3, 8, 8), "(3, 8, 8)"), ((8, 8, 8), "2D")]
)
def test_images_that_do_not_fit(capsys, by_number, make_npz, rng, shape, said):
    path = make_npz(X=rng.integers(0, 99, (8, *shape), dtype=np.uint8), y=np.arange(8) % 2)
    err = check_refused(capsys, "evaluate", by_number, path)
    assert err.startswith(f"skimbal: error: {path}")


def test_result_that_cannot_be_written(capsys, monkeypatch, by_name, own, tmp_path):
    results = tmp_path / "results"
    results.mkdir()
    predict = CNN2DClassifier.predict_proba

    def predict_and_remove(self, X):
        if results.exists():
            results.rmdir()
        return predict(self, X)

    monkeypatch.setattr(CNN2DClassifier, "predict_proba", predict_and_remove)
    argv = ["--csv", str(results / "t.csv"), "--bootstraps", "20"]
    assert main(["evaluate", by_name, own, *argv]) == 1
    out, err = capsys.readouterr()
    assert "malignant" in out
    assert f"skimbal: error: {results / 't.csv'}: " in err


# ---- skimbal export


@pytest.mark.slow
def test_export_writes_onnx(capsys, by_name, tmp_path):
    path = tmp_path / "model.onnx"
    assert main(["export", by_name, "--output", str(path), "--n-tta", "1"]) == 0
    assert capsys.readouterr().out == f"{path} holds the model as ONNX.\n"
    assert path.stat().st_size > 10_000
    assert "File exists" in check_refused(capsys, "export", by_name, "--output", str(path))
    assert "--output" in check_refused(capsys, "export", by_name)


@pytest.mark.parametrize(("passes", "said"), [("3", "got 3"), ("flops", "auto, flips or")])
def test_export_of_other_passes(capsys, by_name, tmp_path, passes, said):
    argv = ["export", by_name, "--output", str(tmp_path / "m.onnx"), "--n-tta", passes]
    assert re.search(f"error: .*--n-tta.*{said}", check_refused(capsys, *argv))


def test_export_without_its_libraries(capsys, monkeypatch, by_name, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    path = tmp_path / "model.onnx"
    err = check_refused(capsys, "export", by_name, "--output", str(path))
    assert 'pip install "onnx' in err
    assert not path.exists()


# ---- rows that may be the training rows


def in_one_line(capsys):
    return " ".join(capsys.readouterr().out.split())


def test_images_of_the_fit_are_counted(capsys, make_npz, own, tmp_path, rng):
    path = str(tmp_path / "model.skimbal")
    assert main(["fit", own, "--module", "small", "--epochs", "1", "--output", path]) == 0
    capsys.readouterr()
    assert main(["evaluate", path, own, "--bootstraps", "20"]) == 0
    words = f"40 of 40 images are among the images that {path} was fitted to, so the"
    assert words in in_one_line(capsys)
    y = np.arange(12) % 3 // 2
    X = images(y, rng)
    X[3] = np.load(own)["X"][7]
    X[4] = 5
    other = make_npz("other.npz", X=X.astype(float), y=np.array(["benign", "malignant"])[y])
    assert main(["evaluate", path, other, "--bootstraps", "20"]) == 0
    assert "1 of 12 images is among" in in_one_line(capsys)
    again = str(tmp_path / "again.skimbal")
    skimbal.load(path).save(again)
    assert main(["evaluate", again, other, "--bootstraps", "20"]) == 0
    assert "1 of 12 images is among" in in_one_line(capsys)


def test_training_rows_are_doubted(capsys, make_npz, own, tmp_path, rng):
    path = str(tmp_path / "model.skimbal")
    data = np.load(own)
    CNN2DClassifier(module="small", max_epochs=1).fit(data["X"], data["y"]).save(path)
    assert main(["evaluate", path, own, "--bootstraps", "20"]) == 0
    assert f"the very shares of the rows that trained {path}. If" in in_one_line(capsys)
    y = np.arange(12) % 3 // 2
    other = make_npz("other.npz", X=images(y, rng), y=np.array(["benign", "malignant"])[y])
    assert main(["evaluate", path, other, "--bootstraps", "20"]) == 0
    assert "very shares" not in " ".join(capsys.readouterr().out.split())
