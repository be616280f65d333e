"""The scikit-learn classifiers: everything that users see, around the skorch net inside."""

import copy
import functools
import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.utils import (
    Tags,
    assert_all_finite,
    check_array,
    check_consistent_length,
    check_random_state,
    column_or_1d,
    compute_class_weight,
)
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import ValidSplit
from torch import nn

from skimbal.augmentation import CenterCrop, get_augmentation
from skimbal.classifiers.assembly import carry_over
from skimbal.classifiers.inputs import as_array, checksum, distinct_labels, from_paths
from skimbal.classifiers.parameters import (
    DTYPES,
    LOW_PRECISION,
    OPTIMIZERS,
    OWN_PARAMETERS,
    check_compiler,
    check_device,
    check_number,
    has_float64,
)
from skimbal.classifiers.splitting import groups_argument, is_fraction, with_seed
from skimbal.exceptions import ParameterError
from skimbal.images import ImageArray, ImageFiles, guess_axes
from skimbal.losses import (
    BatchLoss,
    CollapseWarning,
    LossSpec,
    MixedLoss,
    ModuleLoss,
    get_loss,
    inverse_frequency,
    log_prior,
)
from skimbal.networks import BUILT_IN
from skimbal.sampling import SamplerSpec, check_sampler, is_uniform
from skimbal.training import (
    Alone,
    BlockIterator,
    CosineSchedule,
    EpochProgress,
    ImageDataset,
    IncompleteBatches,
    Processes,
    StandardizedModule,
    TrainingNet,
    TrainIterator,
    can_be_fused,
    channel_statistics,
    device_type,
    generator_states,
    isolated_random_state,
    join,
    release_memory,
    restore,
    softmax,
    takes_several_gradients,
)

__all__ = ["CNN2DClassifier", "CNN3DClassifier"]

_CLASS_DOC = """{summary}

    The network is made at ``fit``, when number of channels, image size and classes are known,
    and trained by skorch.  Images may come as they are, in any real dtype: they are converted
    and standardised batch by batch.  A fitted classifier is a transformer, too: ``transform``
    gives the features that its last layer classifies.

    Parameters
    ----------
    loss : str, LossMix, torch.nn.Module class or instance, default="ce+mcc"
        What is minimised: ``"ce"`` (cross-entropy), ``"wce"`` (cross-entropy weighted by
        normalised inverse class frequency), ``"focal"``, ``"f1"`` (soft macro F1), ``"mcc"``
        (soft multi-class MCC), ``"la"`` (cross-entropy of logits plus log prior),
        ``"balanced_softmax"`` (the same as ``"la"`` with its default strength), ``"ldam"``
        (cross-entropy with a margin that is larger for rare classes), or a sum of them such as
        ``"ce + 0.5*mcc"``; a :class:`~skimbal.LossMix`, whose factors and options a search can
        set, such as ``loss__mcc`` and ``loss__statistics``; or a module that maps (logits, target)
        to a scalar, of which a copy is used. ``"f1"`` and ``"mcc"`` alone begin with a warm-up of
        cross-entropy, the ``warmup_epochs`` of a :class:`~skimbal.LossMix`.
    logit_adjustment : float, default=0.0
        Strength :math:`\\tau` of a correction for class frequency at prediction, dimensionless, at
        least 0: ``decision_function``, ``predict_proba`` and ``predict`` use
        :math:`z - \\tau \\log \\pi`, with logits :math:`z` and :math:`\\pi` as in ``class_prior_``.
        It is read at prediction, so another value needs no new fit; training, its callbacks and
        their scores see the logits as they are. This, ``"la"``, ``"balanced_softmax"`` and
        ``"ldam"`` correct in the logits what ``sampler="balanced"``, ``"weighted"`` or
        ``class_weight="balanced"`` correct by rows: use one of them, two would correct twice.
    sampler : None, str, RandomOverSampler or RandomUnderSampler, default=None
        What an epoch is made of: each row once (``None``), batches with equal portions of each
        class (``"balanced"``), batches that mirror the class proportions (``"stratified"``),
        independent draws by inverse class frequency (``"weighted"``), or an imbalanced-learn
        sampler that selects rows, drawn anew every epoch and after ``train_split``. Samplers
        that compute with pixels go before the classifier, in a :class:`~skimbal.NDSampler`.
    augment : None, {{"flip", "paper"}}, callable or list of these, default=None
        What changes the training images, anew in every epoch: flips along every axis, the recipe
        of the paper (see :func:`~skimbal.augmentation.get_augmentation`), or callables, modules of
        torch among them, that map a floating tensor of shape (n, c, {axes}) on the device to
        another of the same shape and dtype. Copies of them are used. Validation rows and
        predictions see the images as they are.
    crop_size : int or tuple of int, default=None
        Size of the window that the network sees, in voxels, along every or along each axis: at a
        random place of each training image, before ``augment``, and in the centre otherwise. If
        None, it sees all of an image.
    n_tta : int, default=1
        Number of passes over each image in a prediction (test-time augmentation), of which the
        probabilities are averaged: the first one sees the image as it is, the others what
        ``augment`` and ``crop_size`` of the fit make of it. It is read at prediction.
        ``transform`` computes the features of the first one.
    module : {{"small", "resnet18", "resnet34"}} or callable, default="small"
        The network, or a factory ``f(in_channels, n_classes)`` that builds one. Options of the
        network are set as ``net__module__width``.
    feature_layer : str, default=None
        Layer whose input ``transform`` gives, by its name in ``named_modules()`` of the network
        (``net_.module_.network``). If None, the last :class:`torch.nn.Linear` that runs in a
        prediction, which is the classifier of the built-in networks. Read when ``fit`` makes the
        network.
    input_shape : tuple of int, default=None
        Shape of an image, {shapes}, in voxels. It gives rows their shape, and says that the axes
        of images are right as they are. If None, images keep their shape and rows become
        one line of pixels.
    standardize : bool, default=True
        Whether to subtract the mean of each channel over the training rows (weighted by
        ``sample_weight`` and ``class_weight``) and to divide by the standard deviation.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, dimensionless, multiplied with ``sample_weight``.
    optimizer : str or torch.optim.Optimizer class, default="adam"
        Name of a class in :mod:`torch.optim`, in any case, or the class.
    lr : float, default=1e-3
        Learning rate, dimensionless.
    lr_schedule : {{"cosine"}} or None, default="cosine"
        Cosine annealing to 0 over ``max_epochs``, or a constant rate. An ``LRScheduler`` among
        the callbacks takes its place; ``partial_fit`` keeps the rate constant.
    max_epochs : int, default=30
        Number of epochs that ``fit`` trains.
    batch_size : int, default=64
        Largest number of rows in a batch, in samples.
    micro_batch_size : int, default=None
        Rows in memory at once, in samples. The gradient is that of the whole batch all the same;
        where the loss is no mean over rows, for the price of a second forward pass. A loss module
        of your own that is one says so by an attribute ``mean_over_rows = True``.
    callbacks : list of skorch callbacks or (str, callback) pairs, default=None
        Run during training, in encoded labels. Named ones are reached as
        ``net__callbacks__name__parameter``.
    train_split : float, int, cross-validation splitter or callable, default=None
        Validation rows for ``valid_loss`` and early stopping: a share of the rows or a number of
        folds of which one is used, both stratified; a splitter, of which the first split is used;
        or what skorch takes (``ValidSplit``, ``predefined_split(Dataset(X, y))``). If None, all
        rows train. With the ``groups`` of ``fit``, shares and folds keep each group on one side; a
        share is then one of ``round(1 / share)`` folds, as close to it as whole groups come.
    device : str, default="cpu"
        Where to train and predict: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...; ``"auto"`` is CUDA
        where there is one, else the CPU.
    dtype : {{"auto", "float32", "float64", "bfloat16", "float16"}}, default="auto"
        Precision of the network. ``"auto"`` is float64, which is slower, for float64 input on the
        CPU, and float32 otherwise. ``"bfloat16"`` and ``"float16"`` keep parameters and loss in
        float32; ``"float16"`` scales the gradients as well.
        ``"bfloat16"`` is refused for volumes on the CPU, where torch computes wrong gradients.
    compile : bool, default=False
        Whether :func:`torch.compile` translates the network, with options from
        ``net__compile__...``. That takes time before the first epoch, and a compiler. Copies and
        pickles of the classifier are not compiled and predict the same.
    distributed : bool, default=False
        Whether the processes that ``accelerate launch`` or ``torchrun`` has started train one
        classifier together, each with its part of every batch. Needs the extra ``distributed``
        or a process group of torch. A script that runs alone trains alone.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the previous fit.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and splits. The same seed gives the same result, bit for bit, on
        the CPU.
    verbose : int, default=0
        0 is silent, 1 shows a progress bar over the epochs, 2 a table with a line per epoch.
    net : dict, default=None
        Further arguments of the skorch net, such as ``{{"optimizer__weight_decay": 1e-4}}``. A
        search reaches them as ``net__optimizer__weight_decay``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    class_prior_ : ndarray of shape (n_classes,)
        Share of each class in the training rows by ``sample_weight``, dimensionless, with sum 1.
        Over all calls of ``partial_fit``; before ``sampler`` and ``class_weight``.
    n_features_in_ : int
        Number of pixels times channels of an image.
    feature_names_in_ : ndarray of shape (n_features,)
        Column names; only where X was a DataFrame whose columns are named by text.
    input_shape_ : tuple of int
        Shape of an image, channels first.
    net_ : skorch.NeuralNetClassifier
        The fitted net; its ``module_`` is the network.
    history_ : skorch.history.History
        Losses, scores and durations of each epoch, and how many of its batches lacked a class
        (``incomplete_batch_count``) or held a single one (``one_class_batch_count``).
    n_epochs_ : int
        Number of epochs in the history.

    See Also
    --------
    {see_also}
    skimbal.NDSampler : Any imbalanced-learn sampler on images, for pipelines.

    References
    ----------
    Menon, A. K. et al. (2021). Long-tail learning via logit adjustment. ICLR.

    Scholz, D. et al. (2024). Imbalance-aware loss functions improve medical image
    classification. MIDL, PMLR 250, 1341-1356.

    Examples
    --------
    {example}
    """


class BaseCNNClassifier(
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    BaseEstimator,  # type: ignore[misc]
):
    """What the classifiers share; they differ in the number of spatial axes."""

    #: Names of the spatial axes of an image.
    _axes: ClassVar[tuple[str, ...]]
    #: Groups mean the same to every split, so they are asked for, as scikit-learn's splitters do.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    __metadata_request__partial_fit: ClassVar[dict[str, bool]] = {"groups": True}

    classes_: np.ndarray
    input_shape_: tuple[int, ...]
    net_: TrainingNet
    #: Weight of each class over all calls of partial_fit, in samples.
    _class_mass: np.ndarray
    #: Epochs that were trained before the present history began.
    _epochs_before: int

    def __init__(
        self,
        loss: LossSpec = "ce+mcc",
        *,
        logit_adjustment: float = 0.0,
        sampler: SamplerSpec = None,
        augment: Any = None,
        crop_size: int | Sequence[int] | None = None,
        n_tta: int = 1,
        module: Any = "small",
        feature_layer: str | None = None,
        input_shape: Sequence[int] | None = None,
        standardize: bool = True,
        class_weight: Any = None,
        optimizer: Any = "adam",
        lr: float = 1e-3,
        lr_schedule: str | None = "cosine",
        max_epochs: int = 30,
        batch_size: int = 64,
        micro_batch_size: int | None = None,
        callbacks: list[Any] | None = None,
        train_split: Any = None,
        device: str = "cpu",
        dtype: str = "auto",
        compile: bool = False,
        distributed: bool = False,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
        net: dict[str, Any] | None = None,
    ) -> None:
        self.loss = loss
        self.logit_adjustment = logit_adjustment
        self.sampler = sampler
        self.augment = augment
        self.crop_size = crop_size
        self.n_tta = n_tta
        self.module = module
        self.feature_layer = feature_layer
        self.input_shape = input_shape
        self.standardize = standardize
        self.class_weight = class_weight
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.callbacks = callbacks
        self.train_split = train_split
        self.device = device
        self.dtype = dtype
        self.compile = compile
        self.distributed = distributed
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose
        self.net = net

    # Parameters ------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, those of the skorch net as ``net__...``.

        Parameters
        ----------
        deep : bool, default=True
            Whether to include the parameters of a :class:`~skimbal.LossMix`, of a sampler and of
            ``net``.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        params: dict[str, Any] = super().get_params(deep)
        if deep and isinstance(self.net, dict):
            params.update({f"net__{name}": value for name, value in self.net.items()})
        return params

    def set_params(self, **params: Any) -> "BaseCNNClassifier":
        """Set parameters; ``net__...`` goes to the skorch net.

        Parameters
        ----------
        **params : dict
            Names and values.

        Returns
        -------
        self : estimator instance
            The same estimator.

        Raises
        ------
        ValueError
            If a parameter is not known, or a factor is set on a loss that is not a ``LossMix``.
        """
        of_net = {name[5:]: params.pop(name) for name in list(params) if name.startswith("net__")}
        loss = params.get("loss", self.loss)
        of_loss = [name for name in params if name.startswith("loss__")]
        if of_loss and not hasattr(loss, "set_params"):
            raise ValueError(
                f"{of_loss[0]} sets a parameter of a LossMix, but loss={loss!r} is not a LossMix. "
                f"Start from {type(self).__name__}(loss=LossMix(ce=1, mcc=1))."
            )
        super().set_params(**params)
        if of_net:
            # A new dict: clones share the old one.
            self.net = {**(self.net or {}), **of_net}
        return self

    def __sklearn_tags__(self) -> Tags:
        """Return what the estimator can do: rows as well as images, which dtypes it keeps."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        preserved = ["float64" if self.dtype == "float64" else "float32"]
        if self.dtype == "auto" and self.device == "cpu":
            preserved.append("float64")
        tags.transformer_tags.preserves_dtype = preserved
        return tags

    # Public methods --------------------------------------------------------------------------

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None
    ) -> "BaseCNNClassifier":
        """Train the network for ``max_epochs`` epochs.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images, with or without a channel axis, or rows of pixels; any real dtype. Memory maps
            and arrays of zarr or h5py are read batch by batch, see also
            :class:`~skimbal.images.ImageArray`; so are image files, given as
            :class:`~skimbal.images.ImageFiles` or as a list, array or column of their paths.
        y : array-like of shape (n_samples,)
            Class labels: numbers, text or booleans, of at least two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, dimensionless and not negative. Integer weights equal repeated rows; a row
            of weight 0 is as good as missing.
        groups : array-like of shape (n_samples,), default=None
            What must not be on both sides of ``train_split``, such as the patient of each image:
            numbers or text. Not used where ``train_split`` is None. Metadata routing passes them
            on unless ``set_fit_request(groups=False)`` was called.

        Returns
        -------
        self : estimator instance
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data cannot be used, or ``groups`` leave no split with every class
            on both sides; before any training.

        Warns
        -----
        CollapseWarning
            If the loss is soft MCC, soft F1 or both, without a term that is a mean over rows.
        UserWarning
            If batches are too small to hold every class where loss or sampler needs that, or if a
            splitter or callable of your own as ``train_split`` puts groups on both sides.
        """
        with self._unchanged_by_errors():
            return self._train(X, y, sample_weight, groups, resume=self.warm_start)

    def partial_fit(
        self,
        X: Any,
        y: Any,
        classes: Any = None,
        sample_weight: Any = None,
        groups: Any = None,
    ) -> "BaseCNNClassifier":
        """Train for one epoch on the given images, at a constant learning rate.

        Standardisation is that of the first call.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or rows, as for ``fit``.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that any call will bring; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, dimensionless and not negative.
        groups : array-like of shape (n_samples,), default=None
            As for ``fit``. Every call splits its own rows.

        Returns
        -------
        self : estimator instance
            The fitted estimator.

        Raises
        ------
        ValueError
            If ``classes`` is missing in the first call or differs later, a label is not among
            them, or a parameter or the data cannot be used.
        """
        with self._unchanged_by_errors():
            return self._train(
                X, y, sample_weight, groups, classes=classes, partial=True, resume=True
            )

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or rows, as for ``fit``.

        Returns
        -------
        score : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Unnormalised log-probabilities, dimensionless, less ``logit_adjustment`` times the log
            prior; for two classes that of ``classes_[1]`` minus that of ``classes_[0]``. With
            ``n_tta`` they are the logarithm of mean probabilities.
        """

        def scores(logits: torch.Tensor) -> torch.Tensor:
            return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

        return self._predict(X, scores)

    def predict_proba(self, X: Any) -> np.ndarray:
        """Compute the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or rows, as for ``fit``.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``. After rebalancing (``sampler="balanced"``,
            class weights, ``logit_adjustment=1``) they are those of a balanced population.
        """
        return self._predict(X, softmax)

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or rows, as for ``fit``.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Class labels.
        """
        # First of all: an estimator that is not fitted has no classes_ to take from.
        best = self._predict(X, lambda logits: logits.argmax(1))
        labels: np.ndarray = self.classes_[best]
        return labels

    def transform(self, X: Any) -> np.ndarray:
        """Compute the features: the input of the last linear layer, or of ``feature_layer``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or rows, as for ``fit``.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features_out)
            Dimensionless, in float32, or in float64 where the network computes in it; an input of
            more axes as one line for each row. A DataFrame if ``set_output`` asks for one.

        Raises
        ------
        ValueError
            If the network has no linear layer and ``feature_layer`` is None, or X does not fit.
        """
        check_is_fitted(self, "net_")
        return self._in_blocks(X, self.net_.features_of_rows)

    @property
    def _n_features_out(self) -> int:
        """Number of features that ``transform`` gives, which scikit-learn asks for."""
        return self.net_.count_features()

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Compute the accuracy, which a rare class hardly moves.

        For a search pass ``scoring="balanced_accuracy"`` or ``"matthews_corrcoef"``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or rows, as for ``fit``.
        y : array-like of shape (n_samples,)
            True labels.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, dimensionless.

        Returns
        -------
        score : float
            Share of the rows that are predicted right, in [0, 1].
        """
        return float(super().score(X, y, sample_weight))

    @property
    def class_prior_(self) -> np.ndarray:
        """Share of each class in the training rows, by weight, with sum 1."""
        mass = self._class_mass
        prior: np.ndarray = mass / mass.sum()
        return prior

    @property
    def history_(self) -> Any:
        """The skorch history: losses, scores and times of each epoch."""
        return self.net_.history

    @property
    def n_epochs_(self) -> int:
        """Number of epochs that the present history covers."""
        return len(self.net_.history)

    # Training --------------------------------------------------------------------------------

    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        groups: Any,
        *,
        resume: bool,
        classes: Any = None,
        partial: bool = False,
    ) -> "BaseCNNClassifier":
        first = not (resume and hasattr(self, "net_"))
        device = self._check_params()
        processes: Processes = Alone()
        if self.distributed:
            device, processes = join(device)
        augmentation = get_augmentation(self.augment, len(self._axes))
        X, shape = self._check_X(X, reset=first)
        crop_size = self._check_crop_size(shape)
        y = self._check_y(X, y)
        weight, rows = self._check_weight(X, sample_weight)
        groups = self._check_groups(X, groups)
        labels = self._check_classes(y[rows], classes, partial=partial, first=first)
        encoded = np.searchsorted(labels, y)
        encoded[encoded == len(labels)] = 0  # rows without weight may hold labels of their own
        if first:
            self._seed, n_epochs = self._draw_seed(), 0
        else:
            n_epochs = self._epochs_before + self.n_epochs_
        self._seed, n_epochs = processes.broadcast((self._seed, n_epochs))
        state = np.random.SeedSequence([self._seed, n_epochs]).generate_state(2)
        torch_seed, split_seed = (int(number) for number in state)

        data = ImageDataset(X, encoded, sample_weight=weight, sample_shape=shape, rows=rows)
        train, valid = self._split(data, labels, groups, split_seed)
        mass = np.bincount(train.y, weights=train.sample_weight, minlength=len(labels))
        if partial and not first:
            mass = mass + self._class_mass
        loss = get_loss(self.loss, mass)
        train, valid = self._apply_class_weight(train, valid, labels, mass)
        self._check_loss(loss, train, labels, once=first or not partial)
        if self.distributed:
            self._check_distributed(loss, train, labels, processes.n_processes)
        numbers = labels.tolist(), self.batch_size, self.max_epochs
        processes.check_same(lambda: (*numbers, checksum(train), checksum(valid)))

        with isolated_random_state(torch_seed, device):
            if partial and not first:
                net = self.net_
                if crop_size != net.module_.crop_size:
                    raise ValueError(
                        f"crop_size={self.crop_size!r} differs from that of the first call, "
                        f"{net.module_.crop_size}, for which the network was made. Set it back, or "
                        "fit anew."
                    )
                net.end_schedule()
                loss = loss.to(net.device, net.module_.dtype)
                loss.carry_on_from(net.criterion_)
                net.criterion_ = loss
            else:
                net = self._make_net(train, labels, loss, crop_size, device, partial)
                if not first:
                    carry_over(self.net_.module_, net.module_)
                self._epochs_before = net.epochs_before_ = n_epochs
            net.augmentation = () if augmentation is None else tuple(augmentation)
            if augmentation is not None:
                augmentation.to(device=net.device, dtype=net.module_.dtype)
                self._check_augmentation(net, train)
            # Set before training, so that an interrupted fit leaves what it has reached.
            self.classes_, self.input_shape_, self.net_ = labels, shape, net
            self._class_mass = mass
            with self._told_about_memory():
                net.train_epochs(train, valid, 1 if partial else self.max_epochs, processes)
        return self

    @contextmanager
    def _told_about_memory(self) -> Iterator[None]:
        """Say in an error about the memory of a device which parameters decide about it."""
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            reason = str(error).partition(". GPU")[0].rstrip(".")
            raise torch.cuda.OutOfMemoryError(
                f"{reason}, with batch_size={self.batch_size} and "
                f"micro_batch_size={self.micro_batch_size} on device={self.device!r}. A smaller "
                "micro_batch_size takes less memory and leaves the gradient that of the whole "
                "batch; so do dtype='bfloat16' and net={'iterator_train__memory_share': 0}, which "
                "keeps the images off the device."
            ) from error
        finally:
            release_memory(self.net_.device)

    @contextmanager
    def _unchanged_by_errors(self) -> Iterator[None]:
        """Leave the estimator as it was if there is an error before a new network trains."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            if vars(self).get("net_") is before.get("net_"):
                self.__dict__.clear()
                self.__dict__.update(before)
            raise

    def _apply_class_weight(
        self,
        train: ImageDataset,
        valid: ImageDataset | None,
        labels: np.ndarray,
        mass: np.ndarray,
    ) -> tuple[ImageDataset, ImageDataset | None]:
        if self.class_weight is None and train.sample_weight is None:
            return train, valid
        if isinstance(self.class_weight, str) and self.class_weight == "balanced":
            per_class = inverse_frequency(mass)
        elif isinstance(self.class_weight, dict) and not all(
            isinstance(weight, Real) for weight in self.class_weight.values()
        ):
            per_class = np.full(len(labels), np.nan)
        else:
            per_class = compute_class_weight(self.class_weight, classes=labels, y=labels)
        if not np.isfinite(per_class).all() or (per_class < 0).any() or not per_class.any():
            raise ValueError(
                "class_weight must hold finite weights of at least 0, not all of them zero; got "
                f"{self.class_weight!r}."
            )

        def weigh(data: ImageDataset) -> np.ndarray:
            weight: np.ndarray = per_class[data.y]
            return weight if data.sample_weight is None else weight * data.sample_weight

        # Mean 1 over the training rows, so that neither scale nor split changes the loss.
        total = weigh(train).sum() / len(train)
        if total == 0:
            raise ValueError(
                "class_weight and sample_weight leave no training row a weight above 0, so there "
                f"is nothing to learn from; got class_weight={self.class_weight!r}."
            )
        return train.reweighted(weigh(train) / total), valid and valid.reweighted(
            weigh(valid) / total
        )

    def _split(
        self, data: ImageDataset, labels: np.ndarray, groups: np.ndarray | None, seed: int
    ) -> tuple[ImageDataset, ImageDataset | None]:
        """Split before anything is learnt from the rows, statistics of the pixels included."""
        if self.train_split is None:
            return data, None
        pair = self._call_split(data, labels, groups, seed)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                "train_split must return a pair, the training rows and the validation rows (or "
                f"None); got {pair!r}."
            )
        train, valid = pair
        if isinstance(train, torch.utils.data.Subset) and train.dataset is data:
            train = data.take(np.asarray(train.indices, dtype=np.intp))
        if isinstance(valid, torch.utils.data.Subset) and valid.dataset is data:
            valid = data.take(np.asarray(valid.indices, dtype=np.intp))
        elif valid is not None and not isinstance(valid, ImageDataset):
            valid = self._foreign_validation_set(valid, labels)
            groups = None  # of these rows there are none
        if not isinstance(train, ImageDataset) or len(train) == 0:
            raise ValueError(
                "train_split must return the training rows as a torch Subset of the data set that "
                f"it is given, with at least one row; got {train!r}."
            )
        if groups is not None and valid is not None:
            self._warn_of_shared_groups(groups[train.rows], groups[valid.rows])
        return train, valid

    def _call_split(
        self, data: ImageDataset, labels: np.ndarray, groups: np.ndarray | None, seed: int
    ) -> Any:
        """Return what ``train_split`` makes of the data, a pair of subsets unless it is wrong."""
        split, y = self.train_split, data.y
        of_rows = None if groups is None else groups[data.rows]
        with warnings.catch_warnings():
            # That a splitter ignores groups matters where it parts them, and is looked at later.
            warnings.filterwarnings("ignore", message="The groups parameter is ignored")
            if callable(split):
                if isinstance(split, ValidSplit):
                    split = with_seed(copy.copy(split), seed)
                    split.cv = with_seed(split.cv, seed)
                return split(data, y, **groups_argument(split, of_rows))
            if of_rows is not None and isinstance(split, Real):
                pair: Any = self._split_by_group(y, labels, of_rows, seed)
            else:
                cv = with_seed(ValidSplit(split, stratified=True).check_cv(y), seed)
                given = groups_argument(cv.split, of_rows)
                pair = next(iter(cv.split(np.zeros(len(y)), y, **given)), None)
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            return pair
        # A mask selects rows as numbers do.
        return [torch.utils.data.Subset(data, np.arange(len(y))[rows].tolist()) for rows in pair]

    def _split_by_group(
        self, y: np.ndarray, labels: np.ndarray, groups: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the first stratified fold of whole groups that has every class on both sides."""
        n_folds = self.train_split
        if is_fraction(n_folds):
            if not 0 < n_folds <= 0.5:
                raise ValueError(
                    "train_split with groups must be a share greater than 0 and at most 0.5, as "
                    f"one of round(1 / share) folds is used, or a number of folds; got {n_folds!r}."
                )
            n_folds = round(1 / n_folds)
        folds = StratifiedGroupKFold(n_folds, shuffle=True, random_state=seed)
        present = np.unique(y)
        with warnings.catch_warnings():
            # A class need not be in every fold, as one is used.
            warnings.filterwarnings("ignore", message="The least populated class in y")
            for train, valid in folds.split(y, y, groups):
                if len(np.unique(y[train])) == len(np.unique(y[valid])) == len(present):
                    return train, valid
        count, rarest = min((len(np.unique(groups[y == k])), k) for k in present)
        raise ValueError(
            f"train_split={self.train_split!r} with groups finds no fold of whole groups, among "
            f"{n_folds}, with every class in both the training and the validation rows. The class "
            f"in the fewest groups is {labels.tolist()[rarest]!r}, in {count}; it needs at least "
            "2. Use fewer folds or a larger share, merge classes, or set train_split=None."
        )

    def _warn_of_shared_groups(self, train: np.ndarray, valid: np.ndarray) -> None:
        shared = np.intersect1d(train, valid)
        if len(shared):
            warnings.warn(
                f"train_split puts {len(shared)} of {len(np.union1d(train, valid))} groups on both "
                f"sides, such as {shared.tolist()[0]!r}, so valid_loss does not tell how it goes "
                "with new groups. Use a share, a number of folds, or a splitter that honours "
                "groups, such as StratifiedGroupKFold.",
                UserWarning,
                stacklevel=5,
            )

    def _foreign_validation_set(self, valid: Any, labels: np.ndarray) -> ImageDataset:
        """Take up a validation set of the user's own, as ``predefined_split`` brings."""
        try:
            X, y = valid.X, valid.y
        except AttributeError:
            raise TypeError(
                "the validation set of train_split must be a skorch.dataset.Dataset(X, y) or a "
                f"torch Subset of the training data; got {type(valid).__name__}."
            ) from None
        X, shape = self._check_X(X, reset=False)
        y = self._check_y(X, y)
        self._refuse_unknown_labels(y, labels)
        return ImageDataset(X, np.searchsorted(labels, y), sample_shape=shape)

    def _make_net(
        self,
        train: ImageDataset,
        labels: np.ndarray,
        loss: MixedLoss | ModuleLoss,
        crop_size: tuple[int, ...] | None,
        device: str,
        partial: bool,
    ) -> TrainingNet:
        n_channels, *spatial_shape = train.sample_shape
        if crop_size is not None:
            spatial_shape = list(crop_size)
        dtype = self.dtype
        if dtype == "auto":
            is_float64 = train.dtype.newbyteorder("=") == np.float64
            follows_float64 = is_float64 and device_type(device) == "cpu"
            dtype = "float64" if follows_float64 else "float32"
        low_precision = dtype in LOW_PRECISION
        module_dtype = torch.float32 if low_precision else DTYPES[dtype]
        options, mean, std = self._net_options(labels, device), None, None
        if self.standardize:
            own = options["iterator_train"] is TrainIterator
            n_workers = options.get("iterator_train__num_workers") if own else 0
            try:
                mean, std = channel_statistics(train, n_workers)
            except ParameterError as error:
                raise error.within("iterator_train") from None
        if mean is not None and std is not None:
            largest = np.abs([mean, std]).max()
            if not largest <= torch.finfo(module_dtype).max:
                raise ValueError(
                    "the pixels of X are too large to be standardised: mean or standard deviation "
                    f"is beyond the range of {module_dtype}. Scale X down, or see dtype."
                )
        factory = self.module
        if isinstance(factory, str):
            factory = functools.partial(BUILT_IN[factory], spatial_shape=tuple(spatial_shape))
        # Not as module__factory: skorch pickles what begins with module_ on its own, even for a
        # copy, and a factory that is a lambda would not stand that.
        module = functools.partial(
            StandardizedModule,
            factory,
            n_channels,
            len(labels),
            module_dtype,
            mean,
            std,
            # Which looks at gradients as one line of numbers, and cannot with another layout.
            channels_last=not takes_several_gradients(self._optimizer()),
            crop_size=crop_size,
        )
        net = TrainingNet(
            module,
            criterion=loss.to(module_dtype),
            optimizer=self._optimizer(),
            lr=self.lr,
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            micro_batch_size=self.micro_batch_size,
            autocast=DTYPES[dtype] if low_precision else None,
            compiled=self.compile,
            feature_layer=self.feature_layer,
            callbacks=self._make_callbacks(loss, partial),
            predict_nonlinearity=softmax,
            dataset=functools.partial(ImageDataset, sample_shape=train.sample_shape),
            train_split=None,
            classes=np.arange(len(labels)),
            device=device,
            verbose=int(self.verbose >= 2),
            **options,
        ).initialize()
        self._check_callback_options(net, options)
        net.check_feature_layer()
        self._check_output(net, train, len(labels))
        net.compile_module()
        return net

    def _net_options(self, labels: np.ndarray, device: str) -> dict[str, Any]:
        """Return what ``net`` asks for, over what is done without it."""
        options: dict[str, Any] = {"iterator_train": TrainIterator, "iterator_valid": BlockIterator}
        options.update(self.net or {})
        if can_be_fused(self._optimizer(), device) and not any(
            name.startswith("optimizer__") and name.endswith(("fused", "foreach", "differentiable"))
            for name in options
        ):
            options["optimizer__fused"] = True
        if options["iterator_train"] is TrainIterator:
            options.update(iterator_train__sampler=self.sampler, iterator_train__classes=labels)
        return options

    def _check_callback_options(self, net: TrainingNet, options: dict[str, Any]) -> None:
        known = {"lr_schedule", "progress", "incomplete_batches", *dict(net.callbacks_)}
        for name, value in options.items():
            parts = name.split("__")
            if parts[0] == "callbacks" and value is not None and parts[1] not in known:
                raise ValueError(
                    f"net[{name!r}] is for a callback that is not there; known are "
                    f"{', '.join(sorted(known))}. Add ({parts[1]!r}, callback) to callbacks."
                )

    def _make_callbacks(self, loss: BatchLoss, partial: bool) -> list[Any]:
        callbacks = copy.deepcopy(list(self.callbacks or []))
        plain = [item[1] if isinstance(item, tuple) else item for item in callbacks]
        own_schedule = any(item is LRScheduler or isinstance(item, LRScheduler) for item in plain)
        if self.lr_schedule == "cosine" and not partial and not own_schedule:
            cosine = CosineSchedule("CosineAnnealingLR", T_max=self.max_epochs)
            callbacks.insert(0, ("lr_schedule", cosine))
        if self.verbose == 1 and not partial:
            callbacks.append(("progress", EpochProgress(self.max_epochs)))
        if self.verbose and loss.suffers_from_small_batches:
            callbacks.append(("incomplete_batches", IncompleteBatches()))
        return callbacks

    def _check_output(self, net: TrainingNet, train: ImageDataset, n_classes: int) -> None:
        """Try the network on one row, so that a factory that does not fit fails at once."""
        try:
            logits = net.try_out(train.batch(np.zeros(1, dtype=np.intp)).images)
        except Exception as error:
            error.add_note(
                f"module={self.module!r} failed in a trial with one sample of shape "
                f"{train.sample_shape}."
            )
            raise
        shape = tuple(getattr(logits, "shape", ()))
        if shape != (1, n_classes):
            got = f"shape {shape}" if isinstance(logits, torch.Tensor) else f"{type(logits)}"
            raise ValueError(
                f"module must return logits of shape (n_samples, n_classes), here (1, {n_classes}) "
                f"for one sample; got {got}. A factory is called as f(in_channels, n_classes)."
            )
        if logits.isnan().any():
            raise ValueError(
                "the network turns the first training sample into NaN before any training: values "
                f"of X are beyond the range of {net.module_.dtype}, or module={self.module!r} "
                "makes NaN of numbers. Scale X down, or see dtype and standardize."
            )
        if self.feature_layer is not None:
            net.count_features()

    def _predict(self, X: Any, function: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        check_is_fitted(self, "net_")
        n_tta = self._check_n_tta(self.net_.augments)
        tau = self.logit_adjustment
        check_number("logit_adjustment", tau, Real, 0)
        if tau:
            shift = torch.from_numpy(tau * log_prior(self.class_prior_))
            of_logits = function

            def function(logits: torch.Tensor) -> torch.Tensor:
                # A copy that waits for a CUDA device would do so after each block.
                moved = shift.to(logits.device, logits.dtype, non_blocking=True)
                return of_logits(logits - moved)

        # Draws of its own, the same in each call.
        seed = np.random.SeedSequence(self._seed, spawn_key=(1,)).generate_state(1)[0]
        return self._in_blocks(
            X,
            lambda data: self.net_.predict_rows(data, function, n_tta),
            None if n_tta == 1 else int(seed),
        )

    def _in_blocks(
        self, X: Any, compute: Callable[[ImageDataset], np.ndarray], seed: int | None = None
    ) -> np.ndarray:
        X, shape = self._check_X(X, reset=False)
        data = ImageDataset(X, sample_shape=shape)
        with self._told_about_memory():
            if seed is None and self.net_.iterator_valid is BlockIterator:
                return compute(data)
            # An iterator of the user's, such as a DataLoader, may draw random numbers.
            with isolated_random_state(seed or 0, self.net_.device):
                return compute(data)

    def _draw_seed(self) -> int:
        if self.random_state is None:
            # Not from numpy's global state, which stays as it is.
            return int(np.random.default_rng().integers(2**31 - 1))
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    # Checks ----------------------------------------------------------------------------------

    def _check_params(self) -> str:
        """Refuse parameters that cannot work; return the device."""
        for name in ("max_epochs", "batch_size"):
            check_number(name, getattr(self, name), Integral, 1)
        if self.micro_batch_size is not None:
            check_number("micro_batch_size", self.micro_batch_size, Integral, 1)
            if self.micro_batch_size > self.batch_size:
                raise ValueError(
                    f"micro_batch_size must be at most batch_size={self.batch_size}, got "
                    f"{self.micro_batch_size}."
                )
        check_number("logit_adjustment", self.logit_adjustment, Real, 0)
        augments = self.augment is not None or self.crop_size is not None
        self._check_n_tta(augments)
        if augments and takes_several_gradients(self._optimizer()):
            raise ValueError(
                "augment and crop_size change the images of a batch each time that they are seen, "
                "but optimizer='lbfgs' computes the loss of a batch several times in a step; set "
                "augment=None and crop_size=None, or use another optimizer."
            )
        check_number("verbose", self.verbose, Integral, 0)
        if not isinstance(self.compile, bool | np.bool_):
            raise ValueError(f"compile must be True or False, got {self.compile!r}.")
        if not isinstance(self.distributed, bool | np.bool_):
            raise ValueError(f"distributed must be True or False, got {self.distributed!r}.")
        check_number("lr", self.lr, Real, 0, open_end=True)
        if self.lr_schedule not in (None, "cosine"):
            raise ValueError(f"lr_schedule must be None or 'cosine', got {self.lr_schedule!r}.")
        if not isinstance(self.dtype, str) or self.dtype not in ("auto", *DTYPES):
            raise ValueError(
                f"dtype must be 'auto', {', '.join(map(repr, DTYPES))}; got {self.dtype!r}."
            )
        if isinstance(self.module, str):
            if self.module not in BUILT_IN:
                raise ValueError(
                    f"module must be one of {', '.join(map(repr, BUILT_IN))}, or a factory "
                    f"f(in_channels, n_classes) that returns a network; got {self.module!r}."
                )
        elif isinstance(self.module, nn.Module) or not callable(self.module):
            # A network that is built would keep its weights from one fit to the next.
            raise ValueError(
                "module must be a name or a factory f(in_channels, n_classes) that builds a new "
                "network, not a network: wrap the call in a function. Got an instance of "
                f"{type(self.module).__name__}."
            )
        if not isinstance(self.feature_layer, str | None):
            raise ValueError(
                "feature_layer must be the name of a layer of the network, or None; got "
                f"{self.feature_layer!r}."
            )
        self._optimizer()
        self._check_net_params()
        device = check_device(self.device)
        self._check_precision(device_type(device))
        if self.compile:
            check_compiler(device_type(device))
        return device

    def _check_n_tta(self, augments: bool) -> int:
        check_number("n_tta", self.n_tta, Integral, 1)
        if self.n_tta > 1 and not augments:
            raise ValueError(
                f"n_tta={self.n_tta} averages predictions over augmented images, but the fit has "
                "neither augment nor crop_size, so all of them would be the same. Set augment, "
                "such as augment='flip', or n_tta=1."
            )
        return int(self.n_tta)

    def _check_crop_size(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the size of the crop along each axis, if there is to be one."""
        if self.crop_size is None:
            return None
        try:
            cropped = CenterCrop(self.crop_size)(torch.empty(1, *shape, device="meta"))
        except ValueError as error:
            raise ValueError(f"crop_size={self.crop_size!r} cannot be used: {error}") from None
        return tuple(cropped.shape[2:])

    def _check_augmentation(self, net: TrainingNet, train: ImageDataset) -> None:
        """Try what is to change the images on some rows, so that it fails at once if it fails."""
        images = train.batch(np.arange(min(8, len(train)))).images
        expected = (len(images), images.shape[1], *(net.module_.crop_size or images.shape[2:]))
        states = generator_states(net.device)
        try:
            changed = net.augmented(images)
        except Exception as error:
            error.add_note(
                f"augment={self.augment!r} failed in a trial with images of shape {expected}, in "
                f"{net.module_.dtype}. A transform that takes one image at a time goes into "
                "skimbal.augmentation.PerSample."
            )
            raise
        wanted = expected, net.module_.dtype, device_type(net.device)
        found: Any = type(changed)
        if isinstance(changed, torch.Tensor):
            found = tuple(changed.shape), changed.dtype, changed.device.type
        if found != wanted:
            raise ValueError(
                "augment must keep the shape, dtype and device of a batch of images; in a trial it "
                f"made {found} of {wanted}. A transform that takes one image at a time goes into "
                "skimbal.augmentation.PerSample; to crop, set crop_size."
            )
        if not changed.isfinite().all():
            raise ValueError(
                f"augment={self.augment!r} makes NaN or infinite values of finite ones, in a trial "
                "with the first training rows. Change it, or the range of X."
            )
        if self.micro_batch_size is not None:
            restore(states, net.device)
            again = net.augmented(images)
            if (changed - again).abs().max() > 1e-3 * changed.abs().max():
                raise ValueError(
                    f"micro_batch_size={self.micro_batch_size} may need the same draw of augment "
                    "twice, but with the generators of torch, numpy and python where they were "
                    f"augment={self.augment!r} makes other images. Let it draw from these, or set "
                    "micro_batch_size=None."
                )

    def _check_precision(self, device: str) -> None:
        possible = ["float32"]
        if has_float64(device):
            possible.append("float64")
        if torch.amp.is_autocast_available(device):
            possible += LOW_PRECISION
        if self.dtype not in ("auto", *possible):
            raise ValueError(
                f"dtype={self.dtype!r} cannot be computed on device={self.device!r}, which can do "
                f"{', '.join(map(repr, possible))}."
            )
        if self.dtype == "bfloat16" and device == "cpu" and len(self._axes) == 3:
            # Seen with torch 2.13: the weight gradient of a 3 x 3 x 3 kernel over 2 x 2 x 2 voxels
            # is noise of any size, and different in each call.
            raise ValueError(
                "dtype='bfloat16' is not for volumes on the CPU, where torch computes wrong "
                "gradients of convolutions over few voxels; use dtype='float32' or 'float16', or a "
                "GPU."
            )
        if self.dtype == "float16" and takes_several_gradients(self._optimizer()):
            raise ValueError(
                "dtype='float16' scales gradients, which optimizer='lbfgs' cannot do with the "
                "several gradients of a step; use dtype='bfloat16' or another optimizer."
            )

    def _optimizer(self) -> type[torch.optim.Optimizer]:
        optimizer = self.optimizer
        if isinstance(optimizer, str) and optimizer.lower() in OPTIMIZERS:
            return OPTIMIZERS[optimizer.lower()]
        if (
            isinstance(optimizer, type)
            and issubclass(optimizer, torch.optim.Optimizer)
            and optimizer is not torch.optim.Optimizer
        ):
            return optimizer
        raise ValueError(
            f"optimizer must be a torch.optim.Optimizer class or one of {sorted(OPTIMIZERS)}; got "
            f"{optimizer!r}. Its options are set through net, as net__optimizer__weight_decay."
        )

    def _check_net_params(self) -> None:
        if self.net is not None and not isinstance(self.net, dict):
            raise ValueError(
                "net must be a dict of arguments for the skorch net, such as "
                f"{{'optimizer__weight_decay': 1e-4}}, or None; got {self.net!r}."
            )
        options = self.net or {}
        own = OWN_PARAMETERS
        if "iterator_train" not in options:
            own = own | {"iterator_train__sampler", "iterator_train__classes"}
        for name in options:
            if not isinstance(name, str):
                raise ValueError(f"net must have names as keys, got {name!r}.")
            if name in own:
                raise ValueError(
                    f"net[{name!r}] would go round a parameter of {type(self).__name__}; set that "
                    "one, or see its documentation."
                )
        if "iterator_train" in options and not is_uniform(self.sampler):
            raise ValueError(
                f"net['iterator_train'] makes its own batches, so sampler={self.sampler!r} would "
                "have no effect; use one of the two."
            )
        for name in ("iterator_train", "iterator_valid"):
            if self.distributed and name in options:
                raise ValueError(
                    f"net[{name!r}] makes its own batches, which the processes of distributed=True "
                    "cannot share out; use sampler and batch_size, or set distributed=False."
                )
        if self.callbacks is not None and not isinstance(self.callbacks, list | tuple):
            raise ValueError(
                "callbacks must be a list of skorch callbacks or (name, callback) pairs, or None; "
                f"got {self.callbacks!r}."
            )
        for item in self.callbacks or []:
            named = isinstance(item, tuple) and len(item) == 2
            name, callback = item if named else (type(item).__name__, item)
            is_class = isinstance(callback, type) and issubclass(callback, Callback)
            if not is_class and not isinstance(callback, Callback | None):
                raise ValueError(
                    "callbacks must be a list of skorch callbacks or (name, callback) pairs, or "
                    f"None; its entry {item!r} is neither."
                )
            cls = callback if is_class else type(callback)
            monitor = getattr(callback, "monitor", None)
            if is_class:  # skorch makes the instance
                name = name if named else callback.__name__
                monitor = getattr(
                    inspect.signature(callback).parameters.get("monitor"), "default", None
                )
            monitor = options.get(f"callbacks__{name}__monitor", monitor)
            if self.train_split is None and str(monitor).startswith("valid_"):
                raise ValueError(
                    f"{cls.__name__} monitors {monitor!r}, which needs validation rows, "
                    "but train_split is None. Set train_split=0.2, or monitor='train_loss'."
                )

    # The check sums up all pixels, and the sum of a narrow dtype may meet inf and -inf.
    @np.errstate(invalid="ignore")
    def _check_X(self, X: Any, *, reset: bool) -> tuple[np.ndarray, tuple[int, ...]]:
        """Check the images or rows; return them as they are, with the shape of an image."""
        X = as_array(from_paths(X))
        # Not np.ndim, which containers that are no arrays may refuse.
        if (X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim) <= 2:
            X = validate_data(self, X, dtype="numeric", reset=reset)
            shape = self._shape_of_rows(X.shape[1]) if reset else self.input_shape_
        else:
            if not isinstance(X, ImageArray):
                X = check_array(
                    X, dtype="numeric", allow_nd=True, ensure_all_finite=False, estimator=self
                )
            elif len(X) == 0:
                raise ValueError(
                    f"Found array with 0 sample(s) (shape={X.shape}) while a minimum of 1 is "
                    f"required by {type(self).__name__}."
                )
            shape = self._shape_of_images(X, reset)
            # In blocks, since the check makes an array of the size of its input.
            # Files are checked whenever they are read, which is to be done no more than needed.
            unchecked = X.dtype.kind == "f" and not isinstance(X, ImageFiles)
            for rows in ImageDataset(X).blocks() if unchecked else ():
                block = np.asarray(X[rows[0] : rows[-1] + 1])
                assert_all_finite(block, estimator_name=type(self).__name__, input_name="X")
        if X.dtype.kind not in "biuf":
            raise ValueError(
                f"X must hold real numbers, got dtype {X.dtype}. Convert it first, such as with "
                "X.astype('float32')."
            )
        if reset:
            self.input_shape_ = shape
            if X.ndim > 2:
                self.n_features_in_ = math.prod(shape)
                if hasattr(self, "feature_names_in_"):
                    del self.feature_names_in_
        return X, shape

    def _shape_of_rows(self, n_features: int) -> tuple[int, ...]:
        if self.input_shape is None:
            return (*[1] * len(self._axes), n_features)
        shape = self._given_shape()
        if math.prod(shape) != n_features:
            raise ValueError(
                f"X has {n_features} features, but input_shape={shape} needs {math.prod(shape)}."
            )
        return shape

    def _shape_of_images(self, X: np.ndarray | ImageArray, reset: bool) -> tuple[int, ...]:
        name, n_axes = type(self).__name__, len(self._axes)
        if X.ndim not in (n_axes + 1, n_axes + 2):
            axes = ", ".join(self._axes)
            raise ValueError(
                f"{name} takes X of shape (n_samples, n_channels, {axes}), (n_samples, {axes}) or "
                f"(n_samples, n_features); got an array with {X.ndim} axes, of shape {X.shape}."
                + (f" The first image is {X.paths[0]}." if isinstance(X, ImageFiles) else "")
            )
        shape = X.shape[1:] if X.ndim == n_axes + 2 else (1, *X.shape[1:])
        if 0 in shape:
            raise ValueError(f"an axis of X has size 0: its shape is {X.shape}. Need at least 1.")
        if not reset or self.input_shape is not None:
            expected = self._given_shape() if reset else self.input_shape_
            if shape != expected:
                raise ValueError(
                    f"X has sample shape {shape}, but {name} is expecting sample shape {expected} "
                    "as input."
                )
        # An array that is refused here may be right, so more than a likely guess is needed.
        elif guess_axes(X.shape).surely_channels_last:
            back = ", ".join(str(axis) for axis in range(1, X.ndim - 1))
            raise ValueError(
                f"X of shape {X.shape} looks as if its channels came last; {name} takes them "
                f"first. Use X.transpose(0, {X.ndim - 1}, {back})"
                + ("" if X.ndim == n_axes + 2 else " with the classifier for its spatial axes")
                + f", or say that the axes are right with input_shape={shape}."
            )
        return shape

    def _given_shape(self) -> tuple[int, ...]:
        n_axes = len(self._axes)
        given = self.input_shape
        axes = ", ".join(self._axes)
        if (
            not isinstance(given, list | tuple)
            or len(given) not in (n_axes, n_axes + 1)
            or not all(hasattr(size, "__index__") and size > 0 for size in given)
            or any(isinstance(size, bool) for size in given)
        ):
            raise ValueError(
                f"input_shape must be None, ({axes}) or (n_channels, {axes}) in positive integers; "
                f"got {given!r}."
            )
        shape = tuple(int(size) for size in given)
        return shape if len(shape) == n_axes + 1 else (1, *shape)

    def _check_y(self, X: np.ndarray, y: Any) -> np.ndarray:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        y = as_array(y)
        if np.asarray(y).ndim > 1 and np.asarray(y).shape[1] > 1:
            raise ValueError("Multilabel and multioutput targets are not supported.")
        y = column_or_1d(y, warn=True)
        if y.dtype.kind == "O":
            distinct_labels(y, "y")
        assert_all_finite(y, input_name="y", estimator_name=type(self).__name__)
        check_classification_targets(y)
        check_consistent_length(X, y)
        return np.asarray(y)

    def _check_weight(
        self, X: np.ndarray, sample_weight: Any
    ) -> tuple[np.ndarray | None, np.ndarray]:
        if sample_weight is None:
            return None, np.arange(len(X))
        sample_weight = as_array(sample_weight)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        rows = np.flatnonzero(weight)
        if len(rows) == 0:
            raise ValueError(
                "sample_weight is zero for every row, so there is nothing to learn from; give at "
                "least two rows of different classes a positive weight."
            )
        return weight, rows

    def _check_groups(self, X: np.ndarray, groups: Any) -> np.ndarray | None:
        if groups is None:
            return None
        of_rows: np.ndarray = np.asarray(as_array(groups))
        if of_rows.dtype.kind == "U":
            # Among text in a list, numpy makes text of what is missing.
            of_rows = np.asarray(groups, dtype=object)
        if of_rows.ndim != 1:
            raise ValueError(
                "groups must have one entry for each row of X, so the shape (n_samples,); got "
                f"{of_rows.shape}."
            )
        check_consistent_length(X, of_rows)
        distinct_labels(of_rows, "groups", "group")
        return of_rows

    def _check_classes(
        self, y: np.ndarray, classes: Any, *, partial: bool, first: bool
    ) -> np.ndarray:
        if not first:
            if classes is not None and not np.array_equal(
                distinct_labels(column_or_1d(classes), "classes"), self.classes_
            ):
                raise ValueError(
                    f"classes={classes!r} differs from those of the first call, "
                    f"{self.classes_.tolist()}. Leave classes out, or fit anew."
                )
            labels: np.ndarray = self.classes_
        elif partial:
            if classes is None:
                raise ValueError("classes must be passed on the first call to partial_fit.")
            labels = distinct_labels(column_or_1d(classes), "classes")
        else:
            labels = np.unique(y)
        if len(labels) < 2:
            raise ValueError(
                f"{type(self).__name__} needs at least 2 classes to tell apart, but there is "
                f"{len(labels)} class: {labels.tolist()}."
            )
        self._refuse_unknown_labels(y, labels)
        return labels

    def _refuse_unknown_labels(self, y: np.ndarray, labels: np.ndarray) -> None:
        unknown = np.setdiff1d(y, labels)
        if len(unknown):
            raise ValueError(
                f"y holds labels that are not among the classes {labels.tolist()}: "
                f"{unknown.tolist()}. Pass all labels as classes in the first call of partial_fit, "
                "or fit anew."
            )

    def _check_loss(
        self, loss: MixedLoss | ModuleLoss, train: ImageDataset, labels: np.ndarray, *, once: bool
    ) -> None:
        """Check loss and sampler against the data; warn of what is known to go wrong."""
        if train.sample_weight is not None and not loss.takes_weights:
            raise ValueError(
                f"the loss {loss.name} cannot take weights, but sample_weight or class_weight was "
                "given. Let its forward take sample_weight, of shape (n_samples,)."
            )
        if loss.statistics == "moving" and takes_several_gradients(self._optimizer()):
            raise ValueError(
                "the moving statistics of the loss count a batch once, but optimizer='lbfgs' "
                "computes its loss several times in a step. Use LossMix(..., statistics='batch') "
                "or another optimizer."
            )
        if self.micro_batch_size is not None and not loss.factors:
            self._check_gradient(loss, train, len(labels))
        strategy = check_sampler(self.sampler, labels[train.y])
        if not once:
            return
        if loss.may_collapse and not loss.ce_share(0, self.max_epochs):
            warnings.warn(
                f"loss={self.loss!r} alone is known to collapse to one class: constant predictions "
                "are a plateau of it, above all with small batches (Scholz et al. 2024, Table 6). "
                f"A mix avoids that, loss='ce+{next(iter(loss.factors))}', or a warm-up with "
                "cross-entropy, LossMix(..., warmup_epochs=0.5).",
                CollapseWarning,
                stacklevel=4,
            )
        if self.batch_size < len(labels) and (
            loss.suffers_from_small_batches or strategy.needs_every_class
        ):
            warnings.warn(
                f"batch_size={self.batch_size} is less than the {len(labels)} classes, so no batch "
                "can hold every class, which this loss or sampler needs; use a larger batch_size "
                "(with micro_batch_size if memory is short), or LossMix(..., statistics='moving').",
                UserWarning,
                stacklevel=4,
            )

    def _check_gradient(
        self, loss: MixedLoss | ModuleLoss, train: ImageDataset, n_classes: int
    ) -> None:
        """Try a loss of the user's by itself: in micro-batches it does not see the network."""
        y = torch.from_numpy(train.y[: self.batch_size])
        logits = torch.zeros(len(y), n_classes, requires_grad=True)
        weights = {} if train.sample_weight is None else {"sample_weight": torch.ones(len(y))}
        expected = (
            f"micro_batch_size={self.micro_batch_size} needs a loss that can be differentiated by "
            f"the logits alone; {loss.name} "
        )
        remedy = (
            "Let its forward compute a scalar from (logits, target), or set micro_batch_size=None."
        )
        with isolated_random_state(0, "cpu"):
            try:
                value = copy.deepcopy(loss)(logits, y, **weights)
            except Exception as error:
                raise ValueError(f"{expected}failed in a trial ({error}). {remedy}") from error
        if not isinstance(value, torch.Tensor) or value.numel() != 1 or not value.requires_grad:
            got = f"shape {tuple(value.shape)}" if isinstance(value, torch.Tensor) else repr(value)
            raise ValueError(f"{expected}gave {got} without a way back to them. {remedy}")
        (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
        if gradient is None:
            raise ValueError(f"{expected}does not depend on them. {remedy}")

    def _check_distributed(
        self, loss: BatchLoss, train: ImageDataset, labels: np.ndarray, n_processes: int
    ) -> None:
        """Refuse what would not be one training if several processes share the batches."""
        if not loss.factors:
            if not loss.adds_up(weighted=False):
                raise ValueError(
                    f"distributed=True cannot split the loss {loss.name} over processes "
                    "without knowing that it is a mean over the rows of a batch. If it is one, say "
                    "so by an attribute mean_over_rows = True; else use a loss of skimbal."
                )
            if train.sample_weight is not None:
                raise ValueError(
                    f"distributed=True cannot split the loss {loss.name} with weights, "
                    "as it does not say what it divides their sum by; leave sample_weight and "
                    "class_weight out, or use a loss of skimbal."
                )
        counts = np.bincount(train.y)
        rarest = counts[counts > 0].min()
        strategy = check_sampler(self.sampler, labels[train.y])
        if strategy.equal_portions and n_processes > rarest:
            raise ValueError(
                f"the rarest class has fewer training rows ({rarest}) than there are processes "
                f"({n_processes}), so sampler={self.sampler!r} would fill them with copies of the "
                "same rows. Launch fewer processes, or set sampler='uniform'."
            )


class CNN2DClassifier(BaseCNNClassifier):  # noqa: D101
    __doc__ = _CLASS_DOC.format(
        summary="Convolutional network for 2D images with imbalanced classes.",
        shapes="(h, w) or (c, h, w)",
        axes="h, w",
        see_also="CNN3DClassifier : The same for volumes.",
        example=""">>> from skimbal import CNN2DClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> data = load_imbalanced_digits()
    >>> clf = CNN2DClassifier(loss="ce+mcc", sampler="balanced", max_epochs=2, random_state=0)
    >>> clf.fit(data.X_train, data.y_train).predict_proba(data.X_test).shape[1]
    3""",
    )
    _axes = ("h", "w")


class CNN3DClassifier(BaseCNNClassifier):  # noqa: D101
    __doc__ = _CLASS_DOC.format(
        summary="Convolutional network for volumes (3D images) with imbalanced classes.",
        shapes="(d, h, w) or (c, d, h, w)",
        axes="d, h, w",
        see_also="CNN2DClassifier : The same for 2D images.",
        example=""">>> import numpy as np
    >>> from skimbal import CNN3DClassifier
    >>> X = np.random.default_rng(0).integers(0, 200, size=(40, 12, 12, 12), dtype=np.uint8)
    >>> y = np.array([0] * 32 + [1] * 8)
    >>> X[y == 1, 3:6, 3:6, 3:6] += 50
    >>> clf = CNN3DClassifier(loss="ce+f1", max_epochs=2, random_state=0).fit(X, y)
    >>> clf.input_shape_, clf.predict(X).shape
    ((1, 12, 12, 12), (40,))""",
    )
    _axes = ("d", "h", "w")
