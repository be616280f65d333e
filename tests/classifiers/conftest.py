"""Fixtures of the tests of the classifiers."""

import pytest


@pytest.fixture
def refused(monkeypatch):
    """Call something that has to fail before any training, in words that hold all fragments."""

    def train(*args, **kwargs):
        pytest.fail("training began")

    monkeypatch.setattr("skimbal.training.TrainingNet.train_epochs", train)

    def check(call, *fragments, error=ValueError):
        with pytest.raises(error) as caught:
            call()
        text = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
        assert [part for part in fragments if part not in text] == [], text
        return text

    return check
