import json
import math
import os
from pathlib import Path
from typing import ClassVar
import numpy as np
import pandas as pd
import pytest
import sklearn
import sklearn.metrics as metrics
import torch
from hypothesis import given
from hypothesis import strategies as st
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline as make_imblearn_pipeline
from imblearn.under_sampling import RandomUnderSampler
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import (
    KFold,
    RepeatedStratifiedKFold,
    StratifiedGroupKFold,
    StratifiedKFold,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from skorch.callbacks import Callback
from skorch.dataset import Dataset
from skorch.helper import predefined_split
from torch import nn
from skimbal import CNN2DClassifier, CNN3DClassifier, LossMix, NDSampler
from skimbal.datasets import DataCard, load_imbalanced_digits
from skimbal.images import ImageArray, ImageFiles
from skimbal.networks import SmallCNN
from skimbal.study import Configuration, LossStudy, compare_losses
from skimbal.study.fit_cache import describe
from tests.study.data import compare, made_up, never, quick, reported
from skimbal.study import Fit
from skimbal.study.statistics import holm, interval
from skimbal.study.words import *


def test_array_likes_of_any_kind(small):
    X, y = small
    expected = str(compare(X, y))
    labels = np.array(["a", "b", "c"])[y]
    assert str(compare(X.tolist(), y.tolist())).splitlines()[3:6] == expected.splitlines()[3:6]
    assert str(compare(ImageArray(X), pd.Series(y))) == expected
    assert (
        str(compare(X, labels))
        .replace("f1[a]", "f1[0]")
        .replace("f1[b]", "f1[1]")
        .replace("f1[c]", "f1[2]")
        == expected
    )
    rows = pd.DataFrame(X.reshape(len(X), -1))
    rows.columns = rows.columns.astype(str)
    assert str(compare(rows, y, estimator=quick(input_shape=(8, 8)))) == expected


def test_estimator_and_global_state_are_untouched(small):
    estimator = quick(loss="focal", random_state=7)
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    compare(*small, estimator=estimator)
    assert (estimator.loss, estimator.random_state, estimator.net) == ("focal", 7, None)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    with pytest.raises(NotFittedError):
        estimator.predict(small[0])
