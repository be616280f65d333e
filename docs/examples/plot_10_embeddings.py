"""
The features of a network, as a picture
=======================================

The features before the last layer, embedded in two dimensions, for three losses.

"""

# %%
# Every classifier is a transformer: ``transform`` returns the input of its last
# layer. :class:`~skimbal.displays.EmbeddingDisplay` embeds the features of the test
# images by t-SNE, with a panel for each classifier and the F1 score of each class in
# the legend. The images are a sample of PneumoniaMNIST (MedMNIST v2, CC BY 4.0), which
# comes with the package. Scores on so few images mean little.

import matplotlib.pyplot as plt
from sklearn.metrics import balanced_accuracy_score
from sklearn.neighbors import KNeighborsClassifier

from skimbal import CNN2DClassifier
from skimbal.datasets import load_medmnist_sample
from skimbal.displays import EmbeddingDisplay

data = load_medmnist_sample("pneumoniamnist")
params = {"module": "small", "sampler": "uniform", "augment": None, "batch_size": 32}
params |= {"max_epochs": 10, "random_state": 0}
classifiers = {
    loss: CNN2DClassifier(loss, **params).fit(data.X_train, data.y_train)
    for loss in ("ce", "ce+mcc", "ce+f1")
}
print(classifiers["ce"].transform(data.X_test).shape)

EmbeddingDisplay.from_estimator(
    classifiers,
    data.X_test,
    data.y_test,
    display_labels=data.target_names,
    random_state=0,
)
plt.show()

# %%
# The axes have no meaning, and the axes of two panels are unrelated.
# In t-SNE, neighbouring points are meaningful, but sizes of clusters and distances
# between them are not. One seed and 30 normal images show how the picture is made, not
# which loss separates better.
#
# The features in another classifier
# ----------------------------------
#
# ``transform`` gives the features to any classifier of scikit-learn. Here nearest
# neighbours find the class of a test image among the training images.

for loss, clf in classifiers.items():
    features, features_test = clf.transform(data.X_train), clf.transform(data.X_test)
    neighbours = KNeighborsClassifier(5).fit(features, data.y_train)
    scores = [
        balanced_accuracy_score(data.y_test, y_pred)
        for y_pred in (clf.predict(data.X_test), neighbours.predict(features_test))
    ]
    print(f"{loss:7s} last layer {scores[0]:.2f}, nearest neighbours {scores[1]:.2f}")
