"""Epochs of training and validation."""

import numpy as np
import pytest
import torch

from skimbal.training import isolated_random_state
from tests.training.data import (
    SPECS,
    all_rows,
    assert_same_state,
    draw,
    make_net,
    small_network,
    state_of,
    step_by_hand,
)


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("weighted", [False, True])
def test_validation_loss_is_that_of_all_rows_at_once(spec, weighted):
    train, valid = draw(seed=1), draw(13, weighted=weighted, seed=2)
    net = make_net(train, spec, iterator_valid__batch_size=4)
    first_loss = step_by_hand(net, train)[0].item()
    net.train_epochs(train, valid, 2)
    weight = torch.from_numpy(valid.sample_weight) if weighted else None
    X, y = all_rows(valid)
    logits = net.infer(X)
    expected = net.criterion_(logits, y, sample_weight=weight, normalizer=13).item()
    assert net.history[-1, "valid_loss"] == pytest.approx(expected, rel=1e-12)
    blocks = [block for block in net.history[-1]["batches"] if "valid_loss" in block]
    assert [block["valid_batch_size"] for block in blocks] == [4, 3, 3, 3]
    assert net.history[0, "train_loss"] == pytest.approx(first_loss, rel=1e-12)
    if spec in ("f1", "mcc"):
        parts = np.array_split(np.arange(13), 4)
        losses = [
            net.criterion_(
                logits[part], y[part], sample_weight=None if weight is None else weight[part]
            ).item()
            for part in parts
        ]
        average = np.average(losses, weights=[4, 3, 3, 3])
        assert expected != pytest.approx(average, rel=1e-3), "the average of blocks"


def test_no_validation_rows():
    data = draw()
    net = make_net(data)
    net.train_epochs(data, None, 2)
    assert len(net.history) == 2
    assert "valid_loss" not in net.history[-1]


def test_validation_changes_neither_weights_nor_statistics():
    data = draw(21)
    states = []
    for valid in (None, draw(9, seed=3)):
        factory = small_network(data, norm="batch", dropout=0.5)
        with isolated_random_state(0, "cpu"):
            net = make_net(data, factory=factory, batch_size=7)
            net.train_epochs(data, valid, 2)
        states.append(state_of(net))
    assert_same_state(*states)


def test_epochs_go_on():
    data = draw()
    net = make_net(data, lr=0.2)
    assert net.train_epochs(data, None, 3) is net
    net.train_epochs(data, None, 2)
    assert net.history[:, "epoch"] == [1, 2, 3, 4, 5]
    losses = net.history[:, "train_loss"]
    assert losses == sorted(losses, reverse=True)
