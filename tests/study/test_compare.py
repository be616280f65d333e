import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skimbal.images import ImageArray
from tests.study.data import compare, quick


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
