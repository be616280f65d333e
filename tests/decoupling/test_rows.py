import numpy as np
import pytest
from sklearn.model_selection import KFold

from skimbal.decoupling.rows import split

Y = np.repeat([0, 1], [40, 10])


def test_without_folds_network_and_head_learn_from_all_rows():
    assert split(None, Y, None, 0) == [(None, None)]


@pytest.mark.parametrize(("cv", "n_splits", "n_head"), [(0.3, 1, 15), (5, 5, 10)])
def test_no_row_is_on_both_sides(cv, n_splits, n_head):
    found = split(cv, Y, None, 0)
    assert len(found) == n_splits
    for network, head in found:
        assert len(head) == n_head
        np.testing.assert_array_equal(np.sort(np.r_[network, head]), np.arange(50))
        assert np.bincount(Y[head]).tolist() == [0.8 * n_head, 0.2 * n_head]


@pytest.mark.parametrize("cv", [0.34, 3])
def test_groups_stay_whole(cv):
    groups = np.r_[np.arange(40) // 2, np.arange(10) // 2]
    for network, head in split(cv, Y, groups, 0):
        assert not set(groups[network]) & set(groups[head])


def test_a_splitter_that_separates_groups_is_refused():
    with pytest.raises(ValueError, match="cv must be a splitter that keeps each group on one side"):
        split(KFold(5, shuffle=True, random_state=0), Y, np.arange(50) // 2, 0)


def test_a_side_without_a_class_is_refused():
    with pytest.raises(ValueError, match=r"rows of the head lack the class 1"):
        split(KFold(5), Y, None, 0)
    with pytest.raises(ValueError, match=r"rows of the network lack the class 1"):
        split(0.3, Y, np.r_[np.arange(40), np.full(10, -1)], 0)


@pytest.mark.parametrize(("cv", "groups"), [(0.01, None), (50, None), (0.9, np.arange(50))])
def test_folds_that_cannot_be_are_refused(cv, groups):
    with pytest.raises(ValueError, match="cv must be None, or folds or a share"):
        split(cv, Y, groups, 0)


def test_rows_of_weight_0_are_on_no_side():
    weight = np.where(Y == 1, 1.0, np.arange(50) % 2)
    for cv in (None, 0.3, 2):
        for parts in split(cv, Y, None, 0, weight):
            for part in parts:
                assert weight[part].all()
                assert set(Y[part]) == {0, 1}
    network, head = split(None, Y, None, 0, np.where(Y == 1, 0.0, 1.0))[0]
    assert network.tolist() == head.tolist() == list(range(40))
    lopsided = np.where(np.arange(50) < 49, 1.0 - Y, 1.0)
    with pytest.raises(ValueError, match="lack the class 1"):
        split(2, Y, None, 0, lopsided)
