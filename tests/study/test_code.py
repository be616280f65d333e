import ast

import numpy as np
import pytest
import torch
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline
from torch import nn

from skimbal import CNN2DClassifier, LossMix, NDSampler
from skimbal.datasets import load_imbalanced_digits
from skimbal.study.code import write_code
from tests.study.data import reported


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
