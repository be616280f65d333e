"""The parameters and public methods of the classifiers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils import Tags
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted
from skorch.history import History

from skimbal.augmentation import AugmentSpec, get_augmentation
from skimbal.classifiers.assembly import NewNet, Plan, SameNet, WarmNet, prepare_net
from skimbal.classifiers.cloning import clone_callbacks
from skimbal.classifiers.following import FollowedMixin, GivenRows, train_in_tasks
from skimbal.classifiers.inputs import (
    check_class_argument,
    check_rows,
    weighted_by_class,
)
from skimbal.classifiers.machine import prepare_machine
from skimbal.classifiers.memory import explained_in_prediction, naming_memory
from skimbal.classifiers.parameters import (
    CONSTRAINTS,
    check_constraints,
    check_crop_size,
    check_n_tta,
    listing_auto,
)
from skimbal.classifiers.prior import KnowsPrior, rows_seen
from skimbal.classifiers.ranges import rows_to_predict
from skimbal.classifiers.resuming import prepare_resumption
from skimbal.classifiers.saving import SavingMixin
from skimbal.classifiers.settings import resolve
from skimbal.classifiers.splitting import split_rows
from skimbal.classifiers.trials import (
    check_loss,
    check_processes,
    correction_at_prediction,
    corrects_by_default,
    judge_training,
    warn_of_known_trouble,
)
from skimbal.exceptions import ParameterError
from skimbal.habits import explains_names, refuse_unknown_params
from skimbal.images import InputForm
from skimbal.losses import LossSpec, get_loss
from skimbal.networks import ModuleSpec
from skimbal.sampling import SamplerSpec, check_sampler
from skimbal.training import (
    BlockIterator,
    Change,
    ImageDataset,
    TrainingNet,
    draw_seed,
    end_with_parent,
    isolated_random_state,
    plain_torch,
    softmax,
    trainable_torch,
)
from skimbal.typing import ArrayLike, ClassWeight, ImagesLike, RandomState, Splitter

__all__ = ["BaseCNNClassifier", "CNN2DClassifier", "CNN3DClassifier"]


def _has_slice_weights(estimator: "BaseCNNClassifier") -> bool:
    if not hasattr(estimator.net_.module_.network, "slice_weights"):
        raise AttributeError("Only a SliceNet without pooling='lstm' has a weight of each slice.")
    return True


class BaseCNNClassifier(
    KnowsPrior,
    ClassNamePrefixFeaturesOutMixin,  # type: ignore[misc]
    ClassifierMixin,  # type: ignore[misc]
    TransformerMixin,  # type: ignore[misc]
    SavingMixin,
    FollowedMixin,
    BaseEstimator,  # type: ignore[misc]
):
    r"""Convolutional network for images with imbalanced classes.

    ``fit`` makes the network, as the number of channels, the image size and the classes are known
    then, and skorch trains it. Images may come as they are, in any real dtype: they are converted
    and standardised batch by batch. A fitted classifier is a transformer, too: ``transform`` gives
    the features that the last layer classifies.

    The parameters stand in five groups: loss (``loss`` to ``class_weight``), data (``sampler`` to
    ``standardize``), network (``module`` to ``feature_layer``), optimisation (``optimizer`` to
    ``net``) and machine (``device`` to ``verbose``).

    ``"auto"`` leaves a parameter to ``fit``, which chooses it by the training rows. *Images* are
    arrays with the axes of images, files, and rows with ``input_shape``. *Bare rows* are rows
    without ``input_shape``, of whose pixels nothing is known.

    Parameters
    ----------
    loss : str, LossMix, torch.nn.Module class or instance, default="ce"
        The loss that training minimises: ``"ce"`` (cross-entropy), ``"wce"`` (cross-entropy
        weighted by normalised inverse class frequency), ``"focal"``, ``"f1"`` (soft macro F1),
        ``"mcc"`` (soft multi-class MCC), ``"la"`` (cross-entropy of logits plus log prior),
        ``"balanced_softmax"`` (the same as ``"la"`` with its default strength), ``"ldam"``
        (cross-entropy with a margin that is larger for rare classes), ``"cb"`` and ``"cb_focal"``
        (with class weights by the effective number of rows), ``"drw"`` and ``"ldam_drw"`` (with
        these weights in the last fifth of the epochs), or a sum of them such as
        ``"ce + 0.5*mcc"``. A :class:`~skimbal.LossMix` has parameters that a search can set, such
        as ``loss__mcc`` and ``loss__statistics``. A module maps (logits, target) to a scalar, and
        training uses a copy of it. ``"f1"`` and ``"mcc"`` alone begin with a warm-up of
        cross-entropy, the ``warmup_epochs`` of a :class:`~skimbal.LossMix`.
    logit_adjustment : float, default=0.0
        Strength :math:`\tau` of a correction for class frequency at prediction, dimensionless, at
        least 0: ``decision_function``, ``predict_proba`` and ``predict`` use
        :math:`z - \tau \log \pi`, with logits :math:`z` and :math:`\pi` as in ``class_prior_``.
        Prediction reads it, so another value needs no new fit. Training, its callbacks and their
        scores see the logits as they are. ``logit_adjustment``, ``"la"``, ``"balanced_softmax"``
        and ``"ldam"`` correct the logits. ``sampler="balanced"``, which is the default for images,
        ``"weighted"`` and ``class_weight="balanced"`` correct the rows. Use one correction, as two
        would correct twice: set ``sampler="uniform"`` with ``logit_adjustment``.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, dimensionless, multiplied with ``sample_weight``.
    sampler : str, RandomOverSampler, RandomUnderSampler or None, default="auto"
        The rows of an epoch: each row once (``"uniform"``, which None means too), batches with
        equal portions of each class (``"balanced"``), batches that mirror the class proportions
        (``"stratified"``), independent draws by inverse class frequency (``"weighted"``), or an
        imbalanced-learn sampler that selects rows. It draws anew in every epoch and after
        ``train_split``. A sampler that computes with pixels goes before the classifier, in a
        :class:`~skimbal.NDSampler`. ``"auto"`` is ``"balanced"`` for images and ``"uniform"`` for
        bare rows. It is also ``"uniform"`` if ``class_weight`` or a term of the loss corrects for
        class frequency, a loss module has unequal weights of the classes, such as
        ``CrossEntropyLoss(weight=...)``, ``augment`` mixes labels by class frequency
        (``"remix"``, ``"mamix"``), or ``net["iterator_train"]`` makes the batches. On
        VesselMNIST3D the defaults (``"ce"``, balanced batches) have a test AUC of 0.967 and a
        balanced accuracy of 0.895, ``"ce"`` with uniform batches 0.915 and 0.738, ``"ce+mcc"``
        with balanced batches 0.969 and 0.896 (means of five seeds).
    epoch_length : int, "uniform" or None, default=None
        Number of batches in an epoch, ``"uniform"`` for as many batches as uniform sampling gives,
        or None for as many as ``sampler`` gives. An epoch that is shorter than the epoch of the
        sampler is continued in the next epoch.
    augment : str, callable, list of these or None, default="auto"
        The changes of the training images, drawn anew in every epoch: the name of a recipe (see
        :func:`~skimbal.augmentation.get_augmentation`), or callables, among them torch modules,
        that map a floating tensor of shape (n, c, [d,] h, w) on the device to a tensor of the same
        shape and dtype. Training uses copies of them. Validation rows and predictions see the
        images as they are. The last entry may mix images and their labels: ``"mixup"``,
        ``"remix"``, ``"mamix"`` or a :class:`~skimbal.augmentation.Mixup`.
        ``"auto"`` is ``"light"`` for images and None for bare rows. It has no
        mirror images, as they may swap left and right. It is also None if ``module`` freezes its
        whole backbone, or ``optimizer`` computes the loss of a batch several times in a step.
    crop_size : int or tuple of int, default=None
        Size of the window that the network sees, in voxels, along every or along each axis: at a
        random place of each training image, before ``augment``, and in the centre otherwise. If
        None, the network sees the whole image.
    n_tta : int, "flips" or "auto", default="auto"
        The passes over each image in a prediction (test-time augmentation). The prediction is the
        mean of their probabilities. An integer is the number of passes: the first pass sees the
        image as it is, the others see it changed by ``augment`` and ``crop_size`` of the fit. Each
        pass draws one change for all images, so a prediction does not depend on the other rows.
        ``"flips"`` is all mirror images along the axes that ``augment`` mirrored in the fit. It is
        refused if there are none. ``"auto"`` is ``"flips"`` if there are, and otherwise 1.
        Prediction reads this parameter. ``transform`` computes the features of the first pass.
    train_split : float, int, cross-validation splitter or callable, default=None
        Validation rows for ``valid_loss`` and early stopping: a share of the rows or a number of
        folds of which one is used, both stratified, a splitter, of which the first split is used,
        or a callable of skorch (``ValidSplit``, ``predefined_split(Dataset(X, y))``). If None, all
        rows train. With the ``groups`` of ``fit``, shares and folds keep each group on one side. A
        share then means one of ``round(1 / share)`` folds, as close to it as whole groups allow.
    input_shape : tuple of int, default=None
        Shape of an image, ([d,] h, w) or (c, [d,] h, w), in voxels. It gives rows their shape, and
        says that the axes of images are right as they are. If None, images keep their shape and
        rows become one line of pixels.
    standardize : bool or "auto", default="auto"
        Whether to subtract the mean of each channel over the training rows (weighted by
        ``sample_weight`` and ``class_weight``) and to divide by the standard deviation. ``"auto"``
        is False for a ``module`` that normalises its input itself, and otherwise True.
    module : str, NetworkSpec or callable, default="auto"
        The network: a name of :data:`~skimbal.networks.BUILT_IN`, a description of a network, or a
        factory ``f(in_channels, n_classes)`` that builds it. ``"auto"`` is ``"residual"`` for
        images and ``"small"`` for bare rows. Options of the network are set as
        ``net__module__width``, and parameters of a :class:`~skimbal.networks.NetworkSpec` as
        ``module__width``.
    feature_layer : str, default=None
        Layer whose input ``transform`` gives, by its name in ``named_modules()`` of the network
        (``net_.module_.network``). If None, the last :class:`torch.nn.Linear` that runs in a
        prediction, which is the classifier of the built-in networks. Read when ``fit`` makes the
        network.
    optimizer : str or torch.optim.Optimizer class, default="adamw"
        Name of a class in :mod:`torch.optim`, in any case, or the class.
    lr : float or "auto", default="auto"
        Largest learning rate, dimensionless. ``"auto"`` is 3e-3 for Adam and its variants in
        :mod:`torch.optim`, among them AdamW. It is 1e-3 if ``module`` fine-tunes on images: a
        network that starts from pretrained weights which training changes, such as a
        :class:`~skimbal.Pretrained` whose backbone is not frozen for the whole fit. For another
        optimizer it is the default of its class, such as 1e-3 for SGD and 1 for LBFGS.
    lr_schedule : {"cosine", "one_cycle"} or None, default="one_cycle"
        The learning rate at each step of a ``fit``: a warm-up to ``lr`` over the first quarter of
        the steps and then a cosine to 0 (``"one_cycle"``), a cosine from ``lr`` to 0
        (``"cosine"``), or constant. An ``LRScheduler`` among the callbacks takes its place.
        ``partial_fit`` keeps the rate constant.
    max_epochs : int or "auto", default="auto"
        Number of epochs that ``fit`` trains. ``"auto"`` for images is a budget of steps,
        30 ``n_rows / batch_size``, but at least 3,000 and at most 12,000, rounded up to whole
        epochs of ``sampler``. An epoch then has at most 12,000 steps, or as many as uniform
        sampling gives if these are more. If ``module`` fine-tunes on images (see ``lr``), the
        budget is 10 ``n_rows / batch_size``, at least 300 and at most 6,000 steps. For bare rows
        ``"auto"`` is 30. If 0, ``fit`` makes the network
        and tries it, and ``transform`` works. A prediction then warns, as the last layer is not
        trained.
    batch_size : int or "auto", default="auto"
        Largest number of rows in a batch, in samples. ``"auto"`` is 32 for images in 2D, 16 for
        volumes and 64 for bare rows. It is less for images of which a batch would have more than
        2^25 numbers, but at least 2, ``micro_batch_size`` and the number of classes.
    micro_batch_size : int or "auto", default=None
        Rows in memory at once, in samples. The gradient is the gradient of the whole batch all the
        same. For a loss that is not a mean over rows, this costs a second forward pass. A loss
        module that is a mean over rows says so by an attribute ``mean_over_rows = True``.
        None is the whole batch. So is ``"auto"`` at first. It halves the rows each time that a step
        runs out of memory, repeats the step, and warns of the size that fits.
    callbacks : list of skorch callbacks or (str, callback) pairs, default=None
        Run during training, in encoded labels. Your instances run and can be read after ``fit``.
        Clones, such as those of a cross-validation, have callbacks of their own. In place of an
        instance, a class makes one in every fit. A callback that raises ``KeyboardInterrupt`` ends
        the training, and ``fit`` returns. Parameters of named callbacks are set as
        ``net__callbacks__name__parameter``.
    warm_start : bool, default=False
        Whether ``fit`` goes on from the weights of the previous fit.
    random_state : int, RandomState instance or None, default=None
        Seed of weights, batches and splits. The same seed gives the same result on the same
        machine with the same number of threads, bit for bit on the CPU.
    net : dict, default=None
        Further arguments of the skorch net, such as ``{"optimizer__weight_decay": 1e-4}``. A
        search sets them as ``net__optimizer__weight_decay``. ``tf32`` and ``cudnn_benchmark``
        (True, False, or None for the settings of torch) say whether CUDA rounds float32 to TF32,
        and whether it tries the kernels of each convolution. ``history_`` and the model card say
        whether convolutions used TF32.
    device : str, default="cpu"
        Where to train and predict: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ... ``"auto"`` is CUDA
        if there is a CUDA device, else the CPU. Without a number it is the current device of torch
        when ``fit`` is called, and workers of a search take the devices in turn. A fitted
        classifier stays on its device.
    dtype : {"auto", "float32", "float64", "bfloat16", "float16"}, default="auto"
        Precision of the network. ``"auto"`` is float64, which is slower, for float64 input on the
        CPU, and float32 otherwise. ``"bfloat16"`` and ``"float16"`` keep parameters and loss in
        float32. ``"float16"`` scales the gradients as well.
        ``"bfloat16"`` is refused for volumes on the CPU, where torch computes wrong gradients.
    compile : bool, default=False
        Whether :func:`torch.compile` translates the network, with options from
        ``net__compile__...``. That takes time before the first epoch, and a compiler, except with
        ``compile__backend`` ``"eager"`` or ``"aot_eager"``. CUDA graphs are refused. Copies and
        pickles of the classifier are not compiled and predict the same.
    distributed : bool, default=False
        Whether the processes that ``accelerate launch`` or ``torchrun`` has started train one
        classifier together, each with its part of every batch. Needs the extra ``distributed``
        or a process group of torch. A script that runs alone trains alone.
    verbose : int or bool, default=0
        0 and False are silent, 1 and True show a progress bar over the epochs, 2 shows a table with
        a line per epoch. Both begin with a line of the values that ``"auto"`` has taken.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Class labels, sorted.
    class_count_ : ndarray of shape (n_classes,)
        Number of training rows of each class, by weight, in samples.
    class_prior_ : ndarray of shape (n_classes,)
        Share of each class in the training rows by ``sample_weight``, dimensionless, with sum 1.
        Over all calls of ``partial_fit``, before ``sampler`` and ``class_weight``.
    effective_prior_ : ndarray of shape (n_classes,)
        Shares of the classes in the population that ``predict_proba`` refers to, dimensionless,
        with sum 1: after ``sampler``, ``class_weight`` and the loss, and with the present
        ``logit_adjustment``. Uniform after balanced batches. An AttributeError says why if it is
        not known, such as after a metric loss on uniform batches.
    n_features_in_ : int
        Number of pixels times channels of an image.
    feature_names_in_ : ndarray of shape (n_features,)
        Column names, only if X was a DataFrame whose columns are named by text.
    input_shape_ : tuple of int
        Shape of an image, channels first.
    input_ : InputForm
        The images of the fit: shape, dtype, scale, range of the numbers and, after a fit to files,
        how they were read. Predictions read bare paths in the same way, and compare new images
        with it (see :class:`~skimbal.images.InputForm`).
    net_ : skorch.NeuralNetClassifier
        The fitted net. Its ``module_`` is the network.
    history_ : skorch.history.History
        Losses, scores and durations of each epoch, and the number of its batches that lacked a
        class (``incomplete_batch_count``) or held a single class (``one_class_batch_count``). Also
        the learning rate at the end of an epoch (``event_lr``) and, of the last epoch, the number
        of classes that the network predicted for its training rows (``predicted_class_count``)
        and of batches for whose rows it predicted one class (``constant_batch_count``).
        With ``dtype="float16"`` also the steps of an epoch that left the weights as they were,
        because scaled gradients overflowed (``skipped_step_count``). They count as steps of
        ``lr_schedule``.
    n_epochs_ : int
        Number of epochs in the history.
    n_steps_ : int
        Number of steps in these epochs.
    micro_batch_size_ : int
        Largest number of rows in memory at once in training, in samples: after
        ``micro_batch_size="auto"`` the size that fits, which ``partial_fit`` and ``warm_start``
        begin with. ``history_`` has it for each epoch (``micro_batch_size``).
    batch_size_ : int
        Largest number of rows in a batch of the training, in samples.
    lr_ : float
        Largest learning rate of the training, dimensionless.

    See Also
    --------
    CNN2DClassifier : The classifier of 2D images.
    CNN3DClassifier : The classifier of volumes.
    skimbal.NDSampler : Any imbalanced-learn sampler on images, for pipelines.

    References
    ----------
    Menon, A. K. et al. (2021). Long-tail learning via logit adjustment. ICLR.

    Scholz, D. et al. (2024). Imbalance-aware loss functions improve medical image
    classification. MIDL, PMLR 250, 1341-1356.
    """

    #: Names of the spatial axes of an image.
    spatial_axes: ClassVar[tuple[str, ...]]
    _parameter_constraints = CONSTRAINTS
    #: Groups mean the same to every split, so they are requested, as scikit-learn's splitters do.
    __metadata_request__fit: ClassVar[dict[str, bool]] = {"groups": True}
    __metadata_request__partial_fit: ClassVar[dict[str, bool]] = {"groups": True}

    classes_: np.ndarray
    input_shape_: tuple[int, ...]
    n_features_in_: int
    input_: InputForm
    net_: TrainingNet
    #: Seed of the fit.
    _seed: int
    #: Epochs that were trained before the present history began.
    _epochs_before: int
    #: ``logit_adjustment`` that the fit knew of, if its default sampler corrects already.
    _known_tau: float | None

    @explains_names
    def __init__(
        self,
        # Loss
        loss: LossSpec = "ce",
        *,
        logit_adjustment: float = 0.0,
        class_weight: ClassWeight = None,
        # Data
        sampler: SamplerSpec = "auto",
        epoch_length: int | str | None = None,
        augment: AugmentSpec = "auto",
        crop_size: int | Sequence[int] | None = None,
        n_tta: int | str = "auto",
        train_split: float | Splitter | Callable[..., object] | None = None,
        input_shape: Sequence[int] | None = None,
        standardize: bool | str = "auto",
        # Network
        module: ModuleSpec = "auto",
        feature_layer: str | None = None,
        # Optimisation
        optimizer: str | type[torch.optim.Optimizer] = "adamw",
        lr: float | str = "auto",
        lr_schedule: str | None = "one_cycle",
        max_epochs: int | str = "auto",
        batch_size: int | str = "auto",
        micro_batch_size: int | str | None = None,
        callbacks: Sequence[object] | None = None,
        warm_start: bool = False,
        random_state: RandomState = None,
        net: Mapping[str, object] | None = None,
        # Machine
        device: str = "cpu",
        dtype: str = "auto",
        compile: bool = False,
        distributed: bool = False,
        verbose: int | bool = 0,
    ) -> None:
        self.loss = loss
        self.logit_adjustment = logit_adjustment
        self.class_weight = class_weight
        self.sampler = sampler
        self.epoch_length = epoch_length
        self.augment = augment
        self.crop_size = crop_size
        self.n_tta = n_tta
        self.train_split = train_split
        self.input_shape = input_shape
        self.standardize = standardize
        self.module = module
        self.feature_layer = feature_layer
        self.optimizer = optimizer
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.callbacks = callbacks
        self.warm_start = warm_start
        self.random_state = random_state
        self.net = net
        self.device = device
        self.dtype = dtype
        self.compile = compile
        self.distributed = distributed
        self.verbose = verbose

    # Parameters ------------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Get the parameters, with the options of the skorch net as ``net__...``.

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

    def set_params(self, **params: object) -> Self:
        """Set parameters, among them options of the skorch net as ``net__...``.

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
            If a parameter is not known, or ``loss__...`` is set and the loss is not a ``LossMix``.
        """
        of_net = {name[5:]: params.pop(name) for name in list(params) if name.startswith("net__")}
        loss = params.get("loss", self.loss)
        of_loss = [name for name in params if name.startswith("loss__")]
        if of_loss and not hasattr(loss, "set_params"):
            raise ParameterError(
                "loss",
                f"a LossMix to set {of_loss[0]}",
                loss,
                f"Start from {type(self).__name__}(loss=LossMix(ce=1, mcc=1)).",
            )
        refuse_unknown_params(self, params, self._get_param_names())
        super().set_params(**params)
        if of_net:
            # A new dict: clones share the old one.
            self.net = {**(self.net or {}), **of_net}
        return self

    def __sklearn_clone__(self) -> Self:
        """Return a new classifier with the same parameters and callbacks of its own."""
        names = {"callbacks", "net"} & set(self._get_param_names())
        bare = object.__new__(type(self))  # whose callbacks scikit-learn cannot always clone
        bare.__dict__.update(vars(self) | dict.fromkeys(names))
        cloned: Self = super(BaseCNNClassifier, bare).__sklearn_clone__()
        for name in names:
            setattr(cloned, name, clone_callbacks(getattr(self, name)))
        return cloned

    def __sklearn_tags__(self) -> Tags:
        """Return the abilities: rows as well as images, and the dtypes that are kept."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        preserved = ["float64" if self.dtype == "float64" else "float32"]
        if self.dtype == "auto" and str(self.device) == "cpu":
            preserved.append("float64")
        tags.transformer_tags.preserves_dtype = preserved
        return tags

    # Public methods --------------------------------------------------------------------------

    @explains_names
    def fit(
        self,
        X: ImagesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train the network for ``max_epochs`` epochs.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images, with or without a channel axis, or rows of pixels, of any real dtype. Memory
            maps and arrays of zarr or h5py are read batch by batch, see also
            :class:`~skimbal.images.ImageArray`. So are image files, given as
            :class:`~skimbal.images.ImageFiles` or as a list, array or column of their paths.
        y : array-like of shape (n_samples,)
            Class labels: numbers, text or booleans, of at least two classes.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights, dimensionless and not negative. Repeated rows equal integer weights where
            augmentation is off and one batch holds all rows. A row of weight 0 has no effect.
        groups : array-like of shape (n_samples,), default=None
            Group of each row, such as the patient of the image: numbers or text. A group is not on
            both sides of ``train_split``. ``train_split=None`` does not use them. Metadata routing
            passes the groups on unless ``set_fit_request(groups=False)`` was called.

        Returns
        -------
        self : estimator instance
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data cannot be used, or ``groups`` leave no split with every class
            on both sides. The error comes before any training.
        DivergenceError
            If a loss, logits, weights, moving statistics or the state of the optimizer were NaN or
            infinite at the end of an epoch (see :class:`~skimbal.exceptions.DivergenceError`). The
            estimator is then as after an interrupt in this epoch.

        Warns
        -----
        CollapseWarning
            If the loss is soft MCC, soft F1 or both, without a term that is a mean over rows.
        sklearn.exceptions.ConvergenceWarning
            If the training has learned nothing: in the last epoch, the network predicted one class
            for all training rows or for all rows of each batch, or no weight has changed. Also if
            the training loss rose from each epoch to the next, over at least three epochs and by
            more than 10 %, or ended at more than 100 times the loss of the first batch. Epochs of a
            warm-up do not count. Also if all steps in float16 were skipped.
        UserWarning
            If batches are too small to hold every class and loss or sampler needs every class, or
            if a splitter or callable as ``train_split`` puts groups on both sides.
        """
        end_with_parent()
        with (
            trainable_torch(),
            _rolled_back_on_error(self),
            listing_auto(self, "augment", "sampler"),
        ):
            check_constraints(self, ["warm_start"])
            goes_on = self.warm_start and hasattr(self, "net_")
            start = WarmNet(**self._past()) if goes_on else NewNet()
            return self._train(start, True, X, y, sample_weight, groups)

    @explains_names
    def partial_fit(
        self,
        X: ImagesLike,
        y: ArrayLike,
        classes: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Self:
        """Train for one epoch on the given images, at a constant learning rate.

        The first call decides the standardisation.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Images or rows, as for ``fit``.
        y : array-like of shape (n_samples,)
            Class labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that any call will bring. The first call needs them.
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
            them, a parameter or the data cannot be used, or the weights are not finite after a call
            that diverged.
        DivergenceError
            As for ``fit``.

        Warns
        -----
        sklearn.exceptions.ConvergenceWarning
            If all steps of the call were skipped with ``dtype="float16"``.
        """
        end_with_parent()
        with (
            trainable_torch(),
            _rolled_back_on_error(self),
            listing_auto(self, "augment", "sampler"),
        ):
            if hasattr(self, "net_"):
                check_class_argument(classes, self.classes_)
                start: NewNet = SameNet(**self._past(), class_mass=self._class_mass)
            else:
                start = NewNet(check_class_argument(classes, None))
            return self._train(start, False, X, y, sample_weight, groups)

    def decision_function(self, X: ImagesLike) -> np.ndarray:
        """Compute the logits.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for ``fit``, or the path of one image or of a folder of images
            without labels (see :func:`~skimbal.images.list_images`).

        Returns
        -------
        score : ndarray of shape (n_samples,) or (n_samples, n_classes)
            Unnormalised log-probabilities, dimensionless, less ``logit_adjustment`` times the log
            prior. For two classes, the score of ``classes_[1]`` minus the score of ``classes_[0]``.
            With ``n_tta`` they are the logarithm of mean probabilities.
        """

        def scores(logits: torch.Tensor) -> torch.Tensor:
            return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

        return self._predict(X, scores)

    def predict_proba(self, X: ImagesLike) -> np.ndarray:
        """Compute the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for ``fit``, or the path of one image or of a folder of images
            without labels (see :func:`~skimbal.images.list_images`).

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes)
            Probabilities, in the order of ``classes_``. After rebalancing (``sampler="balanced"``,
            class weights, ``logit_adjustment=1``) they are probabilities in a balanced population.
        """
        return self._predict(X, softmax)

    def predict_log_proba(self, X: ImagesLike) -> np.ndarray:
        """Compute the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for ``fit``, or the path of one image or of a folder of images
            without labels (see :func:`~skimbal.images.list_images`).

        Returns
        -------
        log_proba : ndarray of shape (n_samples, n_classes)
            Natural logarithms, dimensionless, in the order of ``classes_``. They are computed from
            the logits, so they are finite and exact where ``predict_proba`` underflows to 0.
        """
        return self._predict(X, lambda logits: logits.log_softmax(1))

    def predict(self, X: ImagesLike) -> np.ndarray:
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for ``fit``, or the path of one image or of a folder of images
            without labels (see :func:`~skimbal.images.list_images`).

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Class labels.

        Raises
        ------
        ValueError
            If the images have another shape, or are files that are read in another way than the
            files of the fit. The message names the options with both values, or the file.
        FileNotFoundError
            If a path does not exist.

        Warns
        -----
        UserWarning
            If the numbers of images are far from the numbers of the training images, such as 0 to 1
            for 0 to 255, or if files have another scale or other voxels than the files of the fit.
        """
        # First of all: an estimator that is not fitted has no classes_ to take from.
        best = self._predict(X, lambda logits: logits.argmax(1))
        labels: np.ndarray = self.classes_[best]
        return labels

    def transform(self, X: ImagesLike) -> np.ndarray:
        """Compute the features: the input of the last linear layer, or of ``feature_layer``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for ``fit``, or the path of one image or of a folder of images
            without labels (see :func:`~skimbal.images.list_images`).

        Returns
        -------
        features : ndarray of shape (n_samples, n_features_out)
            Dimensionless, in float32, or in float64 if the network computes in float64. An input
            of more axes becomes one line for each row. A DataFrame if ``set_output`` asks for it.

        Raises
        ------
        ValueError
            If ``feature_layer=None`` and the network has no linear layer, or X does not fit.
        """
        check_is_fitted(self, "net_")
        return self._in_blocks(X, self.net_.features_of_rows)

    @available_if(_has_slice_weights)  # type: ignore[untyped-decorator]
    def slice_weights(self, X: ImagesLike) -> np.ndarray:
        """Compute the part of each slice in the features that a :class:`~skimbal.SliceNet` pools.

        Only after a fit with such a network, and not with ``pooling="lstm"``, whose states have no
        weight of each slice.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Volumes or rows, as for ``predict``.

        Returns
        -------
        weights : ndarray of shape (n_samples, n_slices)
            Dimensionless, at least 0, with sum 1 over the slices. The weights of the mean for
            ``pooling="attention"`` and ``"mean"``, and the share of the features that have their
            largest value in the slice for ``"max"``. They tell which slices the features come
            from. They do not tell for which class a slice speaks.
        """
        return self._in_blocks(X, self.net_.slice_weights_of_rows)

    @property
    def _n_features_out(self) -> int:
        """Number of features that ``transform`` gives, which scikit-learn asks for."""
        return self.net_.count_features()

    def score(self, X: ImagesLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Compute the accuracy, which a rare class hardly moves.

        For a search pass ``scoring="balanced_accuracy"`` or ``"matthews_corrcoef"``.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), list of paths, or path
            Images or rows, as for ``fit``, or the path of one image or of a folder of images
            without labels (see :func:`~skimbal.images.list_images`).
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
    def history_(self) -> History:
        """The skorch history: losses, scores and times of each epoch."""
        return self.net_.history

    @property
    def n_epochs_(self) -> int:
        """Number of epochs that the present history covers."""
        return len(self.net_.history)

    @property
    def n_steps_(self) -> int:
        """Number of steps that the present history covers."""
        return sum(row.get("train_batch_count", 0) for row in self.history_)

    @property
    def batch_size_(self) -> int:
        """Largest number of rows in a batch of the training, in samples."""
        size: int = self.net_.batch_size
        return size

    @property
    def micro_batch_size_(self) -> int:
        """Largest number of rows in memory at once in training, in samples."""
        return min(self.net_.micro_batch_size or self.batch_size_, self.batch_size_)

    @property
    def lr_(self) -> float:
        """Largest learning rate of the training, dimensionless."""
        rate: float = self.net_.lr
        return rate

    # Inside ----------------------------------------------------------------------------------

    def _past(self) -> dict[str, Any]:
        """Return the state that a fit goes on from."""
        return {
            "labels": self.classes_,
            "previous": self.net_,
            "seed": self._seed,
            "n_epochs": self._epochs_before + self.n_epochs_,
        }

    def _train(
        self,
        start: NewNet,
        whole: bool,
        X: ImagesLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None,
        groups: ArrayLike | None,
    ) -> Self:
        """Train a net for a whole fit, or for one epoch, after which others may follow."""
        device, processes = prepare_machine(self, start.warns)
        device = start.place(self, device)
        is_first = start.previous is None
        rows = check_rows(self, X, y, sample_weight, groups, labels=start.labels, reset=is_first)
        crop_size = check_crop_size(self, rows.data.sample_shape)
        seed = draw_seed(self.random_state) if start.seed is None else start.seed
        seed, resumption = prepare_resumption(self, whole, rows, start, seed, device, processes)
        self._seed, n_epochs = processes.broadcast((seed, start.n_epochs))
        torch_seed, split_seed = np.random.SeedSequence([self._seed, n_epochs]).generate_state(2)

        train, valid = split_rows(self, rows, int(split_seed))
        mass = train.class_mass + start.class_mass
        loss = get_loss(self.loss, mass)
        train, valid = weighted_by_class(self.class_weight, train, valid, mass)
        settings = resolve(self, loss, train, crop_size)
        augmentation = get_augmentation(settings.augment, len(self.spatial_axes))
        strategy = check_sampler(settings.sampler, rows.labels[train.data.y])
        check_loss(self, settings, loss, train, device)
        if self.distributed:
            check_processes(settings, loss, strategy, train, processes.n_processes)
        if start.warns:
            warn_of_known_trouble(self, settings, loss, strategy, len(rows.labels))
            self._known_tau = self.logit_adjustment if corrects_by_default(self, settings) else None
        numbers = rows.labels.tolist(), settings.batch_size, settings.epochs
        processes.check_same(lambda: (*numbers, train.checksum, valid and valid.checksum))

        plan = Plan(train, loss, crop_size, augmentation, settings, device, whole, n_epochs)
        with isolated_random_state(int(torch_seed), device), naming_memory(self, settings, device):
            net = prepare_net(self, start, plan)
            self._passes(net)  # which may be refused
            # Set before training, so that an interrupted fit leaves the epochs so far.
            self.classes_, self.input_shape_ = rows.labels, rows.data.sample_shape
            self.net_, self._class_mass = net, mass
            self._seen = rows_seen(self, strategy, plan, net.mixing_)
            self._epochs_before = net.epochs_before_
            given = GivenRows(X, y, sample_weight)
            with resumption or nullcontext():
                train_in_tasks(self, net, given, plan, valid, processes, resumption)
        judge_training(net, whole)
        return self

    def _predict(
        self, X: ImagesLike, function: Callable[[torch.Tensor], torch.Tensor]
    ) -> np.ndarray:
        check_is_fitted(self, "net_")
        correction = correction_at_prediction(self)
        if correction is not None:
            shift, of_logits = torch.from_numpy(correction), function

            def function(logits: torch.Tensor) -> torch.Tensor:
                # A copy that waits for a CUDA device would do so after each block.
                moved = shift.to(logits.device, logits.dtype, non_blocking=True)
                return of_logits(logits - moved)

        changes, seed = self._passes(self.net_)
        return self._in_blocks(
            X, lambda data: self.net_.predict_rows(data, function, changes), seed
        )

    def _passes(self, net: TrainingNet) -> tuple[list[Change], int | None]:
        """Return the changes of the images in further passes, and a seed if these are random."""
        axes = net.mirrored_axes(self.input_shape_[1:])
        n_passes = check_n_tta(self, net.augments, mirrors=len(axes) > 0)
        if n_passes is None:
            return net.mirror_passes(axes), None
        # Random numbers that no other use draws, the same in each call.
        sequence = np.random.SeedSequence(self._seed, spawn_key=(1,))
        first, *others = sequence.generate_state(n_passes).tolist()
        return net.random_passes(others), first if others else None

    def _in_blocks(
        self,
        X: ImagesLike,
        compute: Callable[[ImageDataset], np.ndarray],
        seed: int | None = None,
    ) -> np.ndarray:
        with rows_to_predict(self, X) as data, plain_torch(), explained_in_prediction(self):
            if seed is None and self.net_.iterator_valid is BlockIterator:
                return compute(data)
            # A foreign iterator, such as a DataLoader, may draw random numbers.
            with isolated_random_state(seed or 0, self.net_.device):
                return compute(data)


@contextmanager
def _rolled_back_on_error(estimator: BaseCNNClassifier) -> Iterator[None]:
    """Leave the estimator as it was if there is an error before a new network trains."""
    before = dict(vars(estimator))
    try:
        yield
    except BaseException:
        if vars(estimator).get("net_") is before.get("net_"):
            estimator.__dict__.clear()
            estimator.__dict__.update(before)
        raise


C = TypeVar("C", bound=type[BaseCNNClassifier])


def _documented_by_base(cls: C) -> C:
    """Put the text and the sections of the base class between the summary and the examples.

    ``inspect.getdoc`` inherits a docstring, but only as a whole, and ``help`` does not inherit it.
    """
    if cls.__doc__ and BaseCNNClassifier.__doc__:  # python -OO has no docstrings
        summary, _, examples = cls.__doc__.partition("\n\n")
        shared = BaseCNNClassifier.__doc__.partition("\n\n")[2].rstrip()
        cls.__doc__ = f"{summary}\n\n{shared}\n\n{examples}"
    return cls


@_documented_by_base
class CNN2DClassifier(BaseCNNClassifier):
    """Convolutional network for 2D images with imbalanced classes.

    Examples
    --------
    >>> from skimbal import CNN2DClassifier
    >>> from skimbal.datasets import load_imbalanced_digits
    >>> data = load_imbalanced_digits()
    >>> clf = CNN2DClassifier(loss="ce+mcc", augment="flip", max_epochs=2, random_state=0)
    >>> clf.fit(data.X_train, data.y_train).predict_proba(data.X_test).shape[1]
    3
    """

    spatial_axes = ("h", "w")


@_documented_by_base
class CNN3DClassifier(BaseCNNClassifier):
    """Convolutional network for volumes (3D images) with imbalanced classes.

    Examples
    --------
    >>> import numpy as np
    >>> from skimbal import CNN3DClassifier
    >>> X = np.random.default_rng(0).integers(0, 200, size=(40, 12, 12, 12), dtype=np.uint8)
    >>> y = np.array([0] * 32 + [1] * 8)
    >>> X[y == 1, 3:6, 3:6, 3:6] += 50
    >>> clf = CNN3DClassifier(loss="ce+f1", max_epochs=2, random_state=0).fit(X, y)
    >>> clf.input_shape_, clf.predict(X).shape
    ((1, 12, 12, 12), (40,))
    """

    spatial_axes = ("d", "h", "w")
