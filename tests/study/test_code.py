import ast
import io
from contextlib import chdir, redirect_stdout

import joblib
import numpy as np
import pytest
import torch
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline
from sklearn import metrics
from sklearn.preprocessing import FunctionTransformer
from torch import nn

import skimbal
from skimbal import CNN2DClassifier, LossMix, NDSampler
from skimbal.datasets import load_image_folder, load_imbalanced_digits, load_npz
from skimbal.images import concatenate
from skimbal.study.code import confirm_in_words, write_code
from skimbal.study.plan import StudyData
from skimbal.study.scores import judge, score_code
from tests.study.data import compare, quick, reported


def run_code(study):
    """Run the lines of a study's code that make the estimator."""
    best = study.best
    code = write_code(study, best.loss, best.sampler)
    names = {}
    exec(estimator_lines(code), names)
    return code, names["clf"]


def estimator_lines(code):
    """Return the line that makes the estimator, and the imports that it needs."""
    tree = ast.parse(code)
    made = next(n for n in tree.body if isinstance(n, ast.Assign) and n.targets[0].id == "clf")
    needed = {node.id for node in ast.walk(made) if isinstance(node, ast.Name)}
    imports = [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and {alias.asname or alias.name for alias in node.names} & needed
    ]
    return "\n".join(map(ast.unparse, [*imports, made]))


def test_code_runs_as_it_stands(study):
    _, clf = run_code(study)
    assert isinstance(clf, CNN2DClassifier)
    configuration = study.configuration(study.best.loss, study.best.sampler)
    assert clf.max_epochs == 2
    assert {key: getattr(clf, key) for key in configuration.params} == configuration.params
    assert clf.random_state == study.seed


def test_code_makes_epochs_as_long_as_in_the_study():
    _, clf = run_code(reported())
    assert clf.sampler == "balanced"
    assert clf.epoch_length == "uniform"
    code, clf = run_code(reported(samplers=["uniform"]))
    assert clf.epoch_length is None
    assert "\nclf = CNN2DClassifier(random_state=7, sampler='uniform')\nclf.fit(X, y)\n" in code


def test_code_of_a_pipeline_imports_what_it_needs():
    study = reported(
        estimator=make_pipeline(NDSampler(SMOTE(k_neighbors=3)), CNN2DClassifier()),
        params={"loss": LossMix(ce=1, mcc=0.5)},
        samplers=["uniform", "balanced"],
    )
    code, pipeline = run_code(study)
    assert "from skimbal import CNN2DClassifier, LossMix, NDSampler\n" in code
    assert "from imblearn.over_sampling import SMOTE\n" in code
    assert "from imblearn.pipeline import Pipeline\n" in code
    assert pipeline[0].sampler.k_neighbors == 3
    assert pipeline[1].get_params()["loss__mcc"] == 0.5
    assert pipeline[1].epoch_length == "uniform"


def test_code_of_samplers_weights_and_numbers():
    study = reported(
        params={"class_weight": {"cyst": np.float64(2.0)}, "lr": float("inf")}, n_splits=1
    )
    study.configurations[-1].params["sampler"] = RandomOverSampler(random_state=3)
    code, clf = run_code(study)
    assert "from imblearn.over_sampling import RandomOverSampler\n" in code
    assert clf.sampler.random_state == study.seed
    assert clf.class_weight == {"cyst": 2.0}
    assert clf.lr == float("inf")


class OwnLoss(nn.Module):
    pass


@pytest.mark.parametrize(
    ("params", "comment"),
    [
        (
            {"module": load_imbalanced_digits},
            "# Replace the parts that are not code: <function load_imba",
        ),
        ({"module": lambda c, k: None}, "<lambda>>."),
        (
            {"optimizer": torch.optim.SGD},
            "# Replace the parts that are not code: <class 'torch.optim.sgd.SGD",
        ),
        ({"loss": nn.CrossEntropyLoss(label_smoothing=0.1)}, "# Check the arguments of Cross"),
        ({"loss": OwnLoss()}, "# Check the arguments of OwnLoss"),
        ({"class_weight": dict.fromkeys(range(50), 1.0)}, "# Replace ... by the values"),
    ],
)
def test_code_says_what_has_to_be_filled_in(params, comment):
    study = reported(params=params)
    code = write_code(study, "ce+mcc", "balanced")
    lines = code.split("\n")
    assert any(comment in line for line in lines if line.startswith("# "))
    assert "from skimbal import CNN2DClassifier" in lines
    assert " at 0x" not in code


def test_code_names_what_no_public_module_holds(monkeypatch):
    monkeypatch.setattr(OwnLoss, "__module__", "_private.module")
    code = write_code(reported(params={"loss": OwnLoss()}), "ce+mcc", "balanced")
    assert "# Import or define OwnLoss." in code


class Known:
    """A classifier that has probabilities."""

    def __init__(self, classes, proba):
        self.classes_, self.proba = classes, proba

    def predict_proba(self, X):
        return self.proba

    def predict(self, X):
        return self.classes_[self.proba.argmax(1)]


@pytest.mark.parametrize("classes", [["a", 'it\'s "b"', "c"], ["ill", "well"], [3, 10], [0, 2, 7]])
def test_code_of_a_score_is_the_score_of_the_study(classes, rng):
    classes = np.unique(classes)
    y = np.concatenate([classes, rng.choice(classes, 57)])
    proba = rng.dirichlet(np.ones(len(classes)), len(y))
    clf = Known(classes, proba)
    data = StudyData(np.zeros((len(y), 2, 2)), y)
    rarest = int(np.argmin(data.counts))
    expected, _ = judge(clf, None, y, classes, rarest, {})
    for name, value in expected.items():
        code = score_code(name, classes, data.card())
        found = eval(code, {**vars(metrics), "np": np, "clf": clf, "X_test": None, "y_test": y})
        assert found == pytest.approx(value, abs=1e-12), code


def test_code_of_a_scorer_of_scikit_learn_and_of_a_function(small):
    for scoring, code in [
        ("neg_log_loss", "get_scorer('neg_log_loss')(clf, X_test, y_test)"),
        (lambda clf, X, y: 0.5, "scorer(clf, X_test, y_test)"),
    ]:
        study = compare(*small, scoring=scoring)
        text = study.code("ce", "uniform")
        assert f"\nscore = {code}\n" in text
        assert ("scorer to the scoring of the study" in text) == callable(scoring)


def test_code_prints_a_score_of_a_class_with_any_name(small):
    X, y = small
    y = np.array(["{a} 'b'", "c", "{}"])[y]
    study = compare(X, y, scoring="f1[{a} 'b']")
    lines = study.code("ce", "uniform").splitlines()
    shown = next(line for line in lines if line.startswith("print(f"))
    with redirect_stdout(io.StringIO()) as said:
        exec(shown, {"score": 0.5, "y_test": [1, 2]})
    assert said.getvalue() == "f1[{a} 'b'] of 2 unseen rows: 0.500\n"


def run_lines(code, folder, **names):
    """Run lines in a new working directory, and return their names and their output."""
    folder.mkdir()
    with chdir(folder), redirect_stdout(io.StringIO()) as shown:
        exec(code, names)
    return names, shown.getvalue()


def check_lines(study, folder, rows, *, loss=None, groups=None, **names):
    """Run the lines for a configuration, and compare the saved model with a fit to the rows."""
    X, y, X_test, y_test = rows
    loss, sampler = loss or study.best.loss, study.best.sampler
    bound, output = run_lines(study.code(loss, sampler), folder, **names)
    model = skimbal.load(folder / "model.skimbal")
    again = study.make_estimator(loss, sampler)
    again.fit(X, y, **({} if groups is None else {"groups": groups}))
    np.testing.assert_allclose(model.predict_proba(X_test), again.predict_proba(X_test), atol=1e-5)
    score = metrics.balanced_accuracy_score(y_test, model.predict(X_test))
    assert output.startswith(f"balanced accuracy of {len(y_test)} unseen rows: {score:.3f}\n")
    card = skimbal.persistence.read_card(folder / "model.skimbal")
    assert "balanced accuracy" in card
    return bound, output


@pytest.mark.slow
def test_lines_train_and_confirm_a_mix_and_a_dict_of_parameters(digits, tmp_path):
    names = np.array(digits.target_names)
    X = np.concatenate([digits.X_train, digits.X_val])
    y = names[np.concatenate([digits.y_train, digits.y_val])]
    losses = {"mix": LossMix(ce=1, mcc=0.5), "post hoc": {"loss": "ce", "logit_adjustment": 1.0}}
    study = compare(X, y, losses=losses, samplers=["balanced"], random_state=5, source=digits)
    rows = X, y, digits.X_test, names[digits.y_test]
    bound, _ = check_lines(study, tmp_path / "mix", rows, loss="mix")
    assert bound["clf"].get_params()["loss__mcc"] == 0.5
    bound, _ = check_lines(study, tmp_path / "post hoc", rows, loss="post hoc")
    assert bound["clf"].logit_adjustment == 1.0
    assert bound["clf"].random_state == 5


@pytest.fixture
def patients(rng):
    """Images of three parts with patients, of which the images of class 7 are brighter."""
    arrays = {}
    for part, n in (("train", 40), ("val", 16), ("test", 20)):
        y = np.where(np.arange(n) % 4 == 0, 7, 2)
        arrays[f"{part}_images"] = rng.integers(0, 99, (n, 8, 8), dtype=np.uint8)
        arrays[f"{part}_images"][y == 7] += 100
        arrays[f"{part}_labels"] = y
        arrays[f"{part}_who"] = np.array([f"{part}{i // 4}" for i in range(n)])
    return arrays


def test_lines_give_groups_to_the_fit_and_judge_rows_that_did_not_choose(patients, tmp_path):
    np.savez(tmp_path / "it's mine.npz", **patients)
    data = load_npz(tmp_path / "it's mine.npz", groups="who")
    study = compare(
        data.X_train,
        data.y_train,
        groups=data.groups_train,
        X_test=data.X_test,
        y_test=data.y_test,
        groups_test=data.groups_test,
        cv=None,
        estimator=quick(train_split=0.25),
        source=data,
        check_copies=False,
    )
    rows = data.X_train, data.y_train, data.X_val, data.y_val
    bound, output = check_lines(study, tmp_path / "away", rows, groups=data.groups_train)
    assert "valid_loss" in bound["clf"].history_[-1]
    assert "groups=data.groups_val, pool=None" in study.code("ce", "uniform")
    assert "4 patients" in output


def write_folder(root, arrays):
    """Write files in folders of parts and classes, and return lines of a table for them."""
    lines = []
    for part in ("train", "val", "test"):
        of_part = (arrays[f"{part}_{name}"] for name in ("images", "labels", "who"))
        for i, (image, label, who) in enumerate(zip(*of_part, strict=True)):
            path = root / part / f"class {label}" / f"{i}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, image)
            lines.append(f"{path.relative_to(root)},{label},{who},{part}")
    return lines


def test_lines_read_folders_again_with_their_options(patients, tmp_path):
    write_folder(tmp_path / 'it\'s a "folder"', patients)
    data = load_image_folder(tmp_path / 'it\'s a "folder"', size=(10, 6), cache="memory")
    X, y = concatenate([data.X_train, data.X_val]), np.concatenate([data.y_train, data.y_val])
    study = compare(X, y, samplers=["balanced"], source=data, check_copies=False)
    bound, _ = check_lines(study, tmp_path / "away", (X, y, data.X_test, data.y_test))
    assert bound["X"].shape == (56, 10, 6)
    assert bound["clf"].classes_.tolist() == ["class 2", "class 7"]


@pytest.mark.slow
def test_lines_read_tables_again_with_groups_and_size(patients, tmp_path, monkeypatch):
    lines = write_folder(tmp_path / "images", patients)
    (tmp_path / "my table.csv").write_text("\n".join(["file,grade,who,part", *lines]))
    monkeypatch.chdir(tmp_path)
    data = load_image_folder(
        "images",
        labels="my table.csv",
        path_column="file",
        label_column="grade",
        group_column="who",
        split_column="part",
        size=6,
    )
    rows = data.X_train, data.y_train
    study = compare(*rows, groups=data.groups_train, source=data, check_copies=False)
    _, output = check_lines(study, tmp_path / "away", (*rows, data.X_test, data.y_test))
    assert "5 patients" in output


@pytest.mark.slow
def test_lines_of_pipelines_save_what_predicts(small, digits, tmp_path):
    X, y = small
    names = {"X": X, "y": y, "X_test": digits.X_test, "y_test": digits.y_test}
    made = make_pipeline(NDSampler(SMOTE(k_neighbors=3)), quick())
    study = compare(X, y, estimator=made)
    check_lines(study, tmp_path / "rows", names.values(), **names)
    scaled = make_pipeline(FunctionTransformer(), quick())
    study = compare(X, y, estimator=scaled)
    bound, _ = run_lines(study.code("ce", "uniform"), tmp_path / "pixels", **names)
    loaded = joblib.load(tmp_path / "pixels" / "model.joblib")
    assert np.array_equal(loaded.predict(digits.X_test), bound["clf"].predict(digits.X_test))


def test_lines_without_unseen_rows_say_so_and_run(small, tmp_path):
    np.savez(tmp_path / "all.npz", X=small[0], y=small[1])
    data = load_npz(tmp_path / "all.npz")
    study = compare(data.X, data.y, source=data)
    bound, output = run_lines(study.code("ce", "uniform"), tmp_path / "away")
    assert output == ""
    assert "score" not in bound
    assert "# The study has seen all rows. Bind X_test and y_test to rows" in study.code(
        "ce", "uniform"
    )
    assert skimbal.load(tmp_path / "away" / "model.skimbal").n_features_in_ == 64
    assert "none of them can confirm its choice" in confirm_in_words(study)


def test_lines_for_bare_files_have_their_options(patients, tmp_path):
    write_folder(tmp_path / "images", patients)
    data = load_image_folder(tmp_path / "images", size=6)
    study = compare(data.X_train, data.y_train, check_copies=False)
    code = study.code("ce", "uniform")
    assert "# Bind paths to the files of the study, and y to their labels" in code
    assert "\nX = ImageFiles(paths, size=6)\n" in code
    names = {"paths": data.X_train.paths, "y": data.y_train, "y_test": data.y_test}
    rows = data.X_train, data.y_train, data.X_test, data.y_test
    check_lines(study, tmp_path / "away", rows, X_test=data.X_test, **names)
