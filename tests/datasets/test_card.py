"""The classes, sizes and imbalance of a data set."""

import numpy as np

from skimbal.datasets import DataCard, load_imbalanced_digits


def test_data_card_counts_each_split():
    card = DataCard.from_labels(
        {"train": ["b", "a", "a", "a"], "test": ["a"]},
        image_shape=(1, 2, 3),
        dtype="uint8",
        groups={"train": [1, 1, 2, 3]},
    )
    assert card.class_names == ["a", "b"]
    assert card.counts == {"train": [3, 1], "test": [1, 0]}
    assert (card.imbalance("train"), card.imbalance("test")) == (3, float("inf"))
    assert card.table() == [
        ["class", "train", "test"],
        ["a", "3 (75 %)", "1 (100 %)"],
        ["b", "1 (25 %)", "0 (0 %)"],
        ["all", "4", "1"],
        ["largest to smallest class", "3.0 : 1", "inf : 1"],
        ["groups", "3", ""],
    ]
    assert str(card).startswith("images of shape (1, 2, 3), uint8\nclass ")


def test_data_card_names_the_classes_of_a_bunch():
    digits = load_imbalanced_digits()
    card = DataCard.from_labels(
        {"train": digits.y_train},
        image_shape=digits.X_train.shape[1:],
        dtype=str(digits.X_train.dtype),
        class_names=digits.target_names,
    )
    assert card.table()[1] == ["other", "432 (83 %)"]
    assert card.n_groups is None


def test_data_card_counts_numbers_in_text_in_their_order():
    labels = {"all": np.array(["10", "2", "2", "1"])}
    card = DataCard.from_labels(labels, image_shape=(8, 8), dtype="uint8")
    assert (card.class_names, card.counts) == (["1", "2", "10"], {"all": [1, 2, 1]})
    names = np.array(["grade 10", "grade 2"])
    card = DataCard.from_labels({"all": names}, image_shape=(8, 8), dtype="uint8")
    assert card.class_names == ["grade 2", "grade 10"]
