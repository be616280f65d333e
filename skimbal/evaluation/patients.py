"""The probabilities of a patient, from the probabilities of the images."""

import numpy as np
from scipy import sparse

from skimbal.evaluation.checks import Rows

__all__ = ["pool_rows"]


def pool_rows(rows: Rows, pool: str) -> Rows:
    """Pool the images of each patient, which have one label, and decide for the best class.

    ``"mean"`` is the mean of each probability. ``"max"`` is the maximum of each probability,
    divided by the sum over the classes.
    """
    assert rows.patient is not None
    assert rows.patients is not None
    n = len(rows.patients)
    truth = np.zeros(n, rows.truth.dtype)
    truth[rows.patient] = rows.truth
    if pool == "mean":
        of_row = (np.ones(len(rows)), (rows.patient, np.arange(len(rows))))
        pooled = sparse.csr_array(of_row, shape=(n, len(rows))) @ rows.proba
    else:
        pooled = np.zeros((n, len(rows.classes)))
        np.maximum.at(pooled, rows.patient, rows.proba)
    proba = np.asarray(pooled) / pooled.sum(1, keepdims=True)
    decided = proba.argmax(1)
    return Rows(rows.classes, truth, proba=proba, decided=decided, least=rows.least)
