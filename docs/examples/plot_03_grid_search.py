"""
A search over the weights of the loss
=====================================

The factors of a mix are parameters like any other, for any search of scikit-learn.

"""

# %%
# :class:`~skimbal.LossMix` is a sum of losses with ``get_params``, which makes
# ``loss__mcc`` a dimension for :class:`~sklearn.model_selection.GridSearchCV`.
# The default score of a classifier is accuracy, which a rare class hardly
# changes, so the search needs another score. An epoch of balanced batches is longer
# than the data. ``epoch_length="uniform"`` gives all candidates the same number of
# steps.

import matplotlib.pyplot as plt
import pandas as pd
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from skimbal import CNN2DClassifier, LossMix
from skimbal.datasets import load_imbalanced_digits

data = load_imbalanced_digits()
search = GridSearchCV(
    CNN2DClassifier(
        loss=LossMix(ce=1),
        module="small",
        augment=None,
        batch_size=64,
        max_epochs=5,
        lr=3e-3,
        random_state=0,
        epoch_length="uniform",
    ),
    {"loss__mcc": [0, 0.5, 1, 2], "sampler": ["uniform", "balanced"]},
    scoring="balanced_accuracy",
    cv=StratifiedKFold(3, shuffle=True, random_state=0),
)
search.fit(data.X_train, data.y_train)

results = pd.DataFrame(search.cv_results_["params"])
results["mean"] = search.cv_results_["mean_test_score"]
results["std"] = search.cv_results_["std_test_score"]
results.round(3)

# %%
# Each point is the mean over three folds and each bar their standard deviation.
# Folds share training rows, so the bars are not confidence intervals.

fig, ax = plt.subplots(figsize=(6, 3.5))
for (sampler, part), marker in zip(results.groupby("sampler"), "os", strict=True):
    ax.errorbar(
        part["loss__mcc"],
        part["mean"],
        part["std"],
        marker=marker,
        capsize=3,
        label=f"sampler={sampler}",
    )
ax.set(xlabel="loss__mcc (with ce=1)", ylabel="balanced accuracy over three folds")
ax.legend()
plt.show()

# %%
# In these few epochs the factor of the MCC term matters with uniform batches, and
# hardly with balanced batches: there the candidates differ by less than their
# bars, and the search has picked one of several equally good candidates.
#
# The test part was not used so far. It is used once, for the chosen candidate:

print(search.best_params_)
score = balanced_accuracy_score(data.y_test, search.predict(data.X_test))
print(f"balanced accuracy {score:.2f} on the test part")

# %%
# Expressions are values of a search as well, ``{"loss": ["ce", "wce", "focal",
# "ce+0.5*mcc"]}``, and ``net__module__width`` or
# ``net__optimizer__weight_decay`` set the network and the optimiser. Compare
# losses at the same sampler: the choice of the sampler alone can make the
# larger difference.
