"""The hooks of skorch, most of them calls of the functions of this folder."""

import io
import pickle
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import skorch
import torch
from skorch.callbacks import Callback, PrintLog
from skorch.dataset import unpack_data
from skorch.utils import FirstStepAccumulator
from torch import Tensor, nn

from skimbal.augmentation import Mixup, mirrored_axes
from skimbal.exceptions import ParameterError
from skimbal.generators import generator_states, restore
from skimbal.networks.prepacking import layers_of
from skimbal.training import (
    epoch,
    fine_tuning,
    forward,
    gradient,
    kept_features,
    prediction,
    saving,
)
from skimbal.training.batches import BlockIterator, TrainIterator
from skimbal.training.callbacks import GO_ON, STOP, EpochProgress, notify
from skimbal.training.dataset import Batch, BatchImages, ImageDataset, images_of, weight_of
from skimbal.training.divergence import (
    EpochWatch,
    StopAtDivergence,
    WatchedSteps,
    Weights,
    check_after_stop,
)
from skimbal.training.optimizers import drop_half_made_state
from skimbal.training.processes import Alone, Processes
from skimbal.training.resume import Resumption
from skimbal.training.sklearn_callbacks import Tasks
from skimbal.training.state import StateMismatchError
from skimbal.training.surroundings import cuda_settings, trainable_torch
from skimbal.transfer import send_module

__all__ = ["TrainingNet"]


class TrainingNet(skorch.NeuralNetClassifier):  # type: ignore[misc]
    """skorch's classifier, trained on a pair of data sets that has been split already.

    Parameters
    ----------
    module : callable
        Makes the network.
    micro_batch_size : int, default=None
        Rows that are in memory at once, in samples. All of the batch if None.
    halves_micro_batches : bool, default=False
        Whether ``micro_batch_size`` becomes half of the rows that memory did not suffice for, each
        time that it does not suffice in a step of training, which is then repeated.
    autocast : torch.dtype, default=None
        Low precision to compute the network in. The loss stays in float32.
    compiled : bool, default=False
        Whether the network is compiled when :meth:`compile_module` is called.
    feature_layer : str, default=None
        Name of the layer of the network whose input :meth:`features_of_rows` computes. The last
        linear layer that runs if None.
    augmentation : tuple of torch.nn.Module, default=()
        Changes of the images of a batch in training, one after the other, after a random crop if
        the module crops.
    lr_schedule : str, default=None
        Name of a row of :data:`~skimbal.training.schedules.SCHEDULES`. A constant rate if None.
    tf32, cudnn_benchmark : bool, default=None
        Whether CUDA rounds float32 to TF32 in products and convolutions, and tries several kernels
        of a convolution for each shape. As torch is set if None.
    **kwargs : dict
        As for :class:`skorch.NeuralNetClassifier`.
    """

    verbose: int
    history: Any
    #: Names of attributes that hold tensors and are pickled in one piece.
    cuda_dependent_attributes_: list[str]

    def __init__(
        self,
        module: Callable[..., nn.Module],
        *args: object,
        micro_batch_size: int | None = None,
        halves_micro_batches: bool = False,
        autocast: torch.dtype | None = None,
        compiled: bool = False,
        feature_layer: str | None = None,
        augmentation: tuple[nn.Module, ...] = (),
        lr_schedule: str | None = None,
        tf32: bool | None = None,
        cudnn_benchmark: bool | None = None,
        **kwargs: object,
    ) -> None:
        super().__init__(module, *args, **kwargs)
        self.micro_batch_size = micro_batch_size
        self.halves_micro_batches = halves_micro_batches
        self.autocast = autocast
        self.compiled = compiled
        self.feature_layer = feature_layer
        # Not a part of module_: its tensors are not weights, and functions would not be pickled.
        self.augmentation = augmentation
        self.lr_schedule = lr_schedule
        self.tf32, self.cudnn_benchmark = tf32, cudnn_benchmark
        #: The rows of the present fit with kept features in place of images, by the id of the rows.
        self._features: dict[int, ImageDataset] = {}
        #: The iterators of the present fit, the file of its state, and its tasks, if there are any.
        self.iterators_: dict[str, Any] = {}
        self.resumption_: Resumption | None = None
        self.tasks_: Tasks | None = None

    # Making and copying ----------------------------------------------------------------------

    def initialize(self) -> "TrainingNet":
        """Initialise all components."""
        super().initialize()
        # A scheduler holds the optimizer. Pickled in one piece they keep being one optimizer. The
        # names are prefixes: a criterion and callbacks given as instances are used as they are,
        # so without the underscore the same tensors would be pickled for their device elsewhere.
        self.cuda_dependent_attributes_ = [
            *(name for name in self.cuda_dependent_attributes_ if name != "criterion_"),
            "criterion",
            "callbacks",
            "scaler",
        ]
        #: The :class:`~skimbal.training.blueprint.Blueprint` that the net is made by.
        self.blueprint_: Any = None
        #: The network of the last prediction, for a further prediction.
        self.kept_network_: forward.KeptNetwork | None = None
        #: Size of the largest output of a layer for one row, in bytes.
        self.activation_bytes_: int | None = None
        #: Size of all weights, in bytes, once a prediction has asked for it.
        self.weight_bytes_: int | None = None
        #: Name of the layer whose input the features are, and their number if they are rows.
        self.feature_layer_: str | None = None
        self.n_features_: int | None = None
        #: Numbers of the images of the fit, by their contents, if they were asked for.
        self.image_numbers_: np.ndarray | None = None
        #: Facts about later trainings of the last layer alone, the earliest first.
        self.head_trainings_: tuple[dict[str, Any], ...] = ()
        #: Epochs that were trained before the history begins, and share of the present epoch.
        self.epochs_before_, self.progress_ = 0, 0.0
        #: Numbers, in the history, of the epochs that train at present.
        self.epochs_ = range(0)
        #: The processes that train this net at present.
        self.processes_: Processes = Alone()
        #: Whether the training goes on, ends by a callback, or by a signal such as Ctrl-C.
        self.due_ = GO_ON
        #: Keeps small gradients of float16 from becoming zero.
        self.scaler_: torch.amp.GradScaler | None = None
        self.scaler_ = gradient.make_scaler(self)
        #: The number that has stopped being finite, in words, if there is one, and whether the
        #: last training has changed no weight.
        self.divergence_, self.stands_still_ = "", False
        #: The mix of the images of a batch, and of their labels, if there is one. In a tuple, as
        #: skorch takes a module for a part of the net.
        self.mixing_: tuple[Mixup, ...] = ()
        #: The weights of the present training, as they were before it.
        self.weights_: Weights | None = None
        self.watch_: EpochWatch | None = None
        return self

    @property
    def default_callbacks(self) -> list[tuple[str, Callback]]:
        """The callbacks of every net: records, the table of epochs, the stop at NaN."""
        return self._default_callbacks

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        # The table of skorch has the columns of the first epoch. The number comes later, and TF32
        # is not of an epoch.
        log = PrintLog(keys_ignored=["predicted_class_count", "tf32"])
        defaults = [*super()._default_callbacks, ("divergence", StopAtDivergence())]
        return [(name, log if name == "print_log" else callback) for name, callback in defaults]

    def initialized_instance(self, instance_or_cls: object, kwargs: dict[str, Any]) -> Any:
        """Make a part of the net, and send the weights of a module to the device without waits."""
        part = super().initialized_instance(instance_or_cls, kwargs)
        return send_module(part, self.device) if isinstance(part, nn.Module) else part

    def compile_module(self) -> None:
        """Let torch compile the network when it is first called, if ``compiled`` is True."""
        if self.compiled:
            # In place: the names of the weights stay, and copies and pickles are not compiled.
            self.module_.compile(**self.get_params_for("compile"))

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, with all that holds tensors in one piece that torch can move."""
        of_fit = {"processes_": Alone(), "_features": {}, "iterators_": {}}
        nothing = dict.fromkeys(("weights_", "watch_", "resumption_", "tasks_", "kept_network_"))
        state = {**vars(self), **of_fit, **nothing}
        if "scaler_" in state:
            state["scaler_"] = gradient.make_scaler(self)
        prefixes = tuple(self.cuda_dependent_attributes_)
        if self.augmentation and _can_be_saved(self.augmentation):
            # If it cannot, this is for a copy: there is no pickle to load on another machine.
            prefixes += ("augmentation",)
        with_tensors = {name: state.pop(name) for name in list(state) if name.startswith(prefixes)}
        return {**state, "with_tensors": saving.to_bytes(self, with_tensors)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, on the CPU where the old device is missing."""
        state = dict(state)
        state["device"] = location = saving.device_at_hand(state["device"])
        with trainable_torch():  # tensors of inference mode would not train afterwards
            state.update(saving.from_bytes(self, state.pop("with_tensors"), location))
        self.__dict__.update(state)

    # Training --------------------------------------------------------------------------------

    def train_epochs(
        self,
        train: ImageDataset,
        valid: ImageDataset | None,
        epochs: int,
        processes: Processes | None = None,
        resumption: Resumption | None = None,
        tasks: Tasks | None = None,
    ) -> "TrainingNet":
        """Train for some epochs. Unlike ``fit``, let an interrupt through to the caller.

        Parameters
        ----------
        train, valid : ImageDataset
            The rows, the same in all processes. ``valid`` may be None.
        epochs : int
            Their number.
        processes : Alone or Together, default=None
            The processes that train this net. This process alone if None.
        resumption : Resumption, default=None
            The file that the state of each epoch is written to, if there is one.
        tasks : Tasks, default=None
            The tasks that callbacks of scikit-learn are told of, if there are such callbacks.
        """
        verbose = self.verbose
        self.resumption_, self.tasks_ = resumption, tasks
        self.processes_ = Alone() if processes is None else processes
        if not self.processes_.is_first:
            self.verbose = 0
        self.scaler_ = gradient.make_scaler(self)
        drop_half_made_state(self.optimizer_)
        self.due_, self.divergence_, self.stands_still_ = GO_ON, "", False
        try:
            with cuda_settings(self.tf32, self.cudnn_benchmark):
                self._run_epochs(train, valid, epochs)
        finally:
            self.processes_, self.verbose = Alone(), verbose
            self.iterators_, self.resumption_, self.tasks_ = {}, None, None
        return self

    def _run_epochs(self, train: ImageDataset, valid: ImageDataset | None, epochs: int) -> None:
        groups = self.optimizer_.param_groups
        rates = [group["lr"] for group in groups]
        self.notify("on_train_begin", X=train, y=train.y)
        if self.optimizer_.param_groups is not groups:
            epoch.start_from_rates(self, rates)
        _copy_from_first(self)
        self.epochs_ = range(len(self.history), len(self.history) + epochs)
        self.weights_ = Weights(self)
        if kept_features.are_kept(self):
            # Not in place of the images, of which callbacks may ask predictions.
            self._features = {
                id(rows): kept_features.as_features(self, rows) for rows in (train, valid) if rows
            }
        try:
            _run_or_resume(self, (train, valid), epochs)
        except KeyboardInterrupt:
            if self.due_ != STOP:
                raise
            check_after_stop(self)
        finally:
            self._features, self.weights_ = {}, None
            self.notify("on_train_end", X=train, y=train.y)
        _copy_from_first(self)

    def notify(self, method_name: str, **cb_kwargs: object) -> None:
        """Call the callbacks. A callback that raises ``KeyboardInterrupt`` ends all processes."""
        notify(self, method_name, cb_kwargs)

    def end_schedule(self) -> None:
        """Drop the objects that span the epochs of one ``fit``, and restore the learning rate."""
        if self.lr_schedule is not None:
            self.lr_schedule = None
            for group in self.optimizer_.param_groups:
                group["lr"] = group.get("initial_lr", group["lr"])
        callbacks: list[tuple[str, Any]] = vars(self)["callbacks_"]
        self.callbacks_ = [pair for pair in callbacks if not isinstance(pair[1], EpochProgress)]

    # Hooks of skorch -------------------------------------------------------------------------

    def check_data(self, X: object, y: object = None) -> None:
        """Trust the classifier, which has checked the data."""

    def get_split_datasets(
        self, X: tuple[ImageDataset, ImageDataset | None], y: object = None, **fit_params: object
    ) -> tuple[ImageDataset, ImageDataset | None]:
        """Return the pair that the classifier has split."""
        if not isinstance(X, tuple) or len(X) != 2 or not isinstance(X[0], ImageDataset):
            raise TypeError(
                "X must be the pair of data sets that the classifier makes; got an object of the "
                f"type {type(X).__name__}. Call fit of the classifier: this net cannot be trained "
                "without it, so SkorchDoctor does not apply."
            )
        return X

    def get_iterator(self, dataset: ImageDataset, training: bool = False) -> Iterable[epoch.Pair]:
        """Return the iterator over the batches, and set its device if it is of this package."""
        name = "iterator_train" if training else "iterator_valid"
        dataset = self._features.get(id(dataset), dataset)
        try:
            iterator: Iterable[epoch.Pair] = super().get_iterator(dataset, training=training)
        except ParameterError as error:
            raise error.within(name) from None
        if training:
            self.iterators_ = {name: iterator}
        elif self.iterators_:  # a callback that predicts makes further iterators
            self.iterators_.setdefault(name, iterator)
        if isinstance(iterator, TrainIterator | BlockIterator):
            iterator.to(self.device)
        is_given = "batch_size" in self.get_params_for("iterator_valid")
        if isinstance(iterator, BlockIterator) and not is_given:
            # skorch gives the batch size of training, which a gradient decides.
            iterator.batch_size = prediction.block_size(self)
        if isinstance(iterator, TrainIterator):
            iterator.processes = self.processes_
        if training:
            # The batches have drawn their seed, which is the same in all processes.
            self.processes_.seed_apart()
        return iterator

    def initialize_optimizer(self, *args: object, **kwargs: object) -> "TrainingNet":
        """Make the optimizer, and name it in an error."""
        try:
            super().initialize_optimizer(*args, **kwargs)
        except (ValueError, TypeError) as error:
            error.add_note(f"optimizer={self.optimizer.__name__} was made for these weights.")
            raise
        return self

    def get_params_for_optimizer(
        self, prefix: str, named_parameters: Iterable[tuple[str, nn.Parameter]]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the parameters in groups, by the learning rates that the network asks for."""
        named = dict(named_parameters)
        args, kwargs = super().get_params_for_optimizer(prefix, named.items())
        groups = fine_tuning.grouped_by_rate(
            self.module_.network, named, self.optimizer, kwargs["lr"]
        )
        if groups is None:
            return args, kwargs
        if "param_groups" in self.get_params_for(prefix):
            raise ParameterError(
                "net",
                "a dict without optimizer__param_groups",
                "optimizer__param_groups",
                "The network sets the learning rate of each layer.",
            )
        return (groups,), kwargs

    def on_batch_end(
        self, net: object, batch: epoch.Pair, training: bool = False, **kwargs: object
    ) -> None:
        """Record the size of the whole batch, of which this process may have a part."""
        if training:
            self.history.record_batch("train_batch_size", len(batch[1]))

    def infer(self, x: BatchImages, **fit_params: object) -> Tensor:
        """Compute the logits of a batch, in float32 or better."""
        return forward.compute_logits(self, images_of(x), **fit_params)

    def get_loss(
        self,
        y_pred: Tensor,
        y_true: Tensor,
        X: BatchImages | None = None,
        training: bool = False,
    ) -> Tensor:
        """Compute the loss, with the weights that come with the images."""
        n_rows = len(y_true)
        return gradient.share_of_loss(self, y_pred, y_true, weight_of(X), n_rows, training)

    def train_step_single(self, batch: epoch.Pair, **fit_params: object) -> dict[str, Tensor]:
        """Compute the gradient of a batch in training mode."""
        self.set_training(True)
        step = gradient.compute_gradient(self, Batch(unpack_data(batch)))
        # Callbacks score it with the labels of the whole batch.
        logits = self.processes_.gather_rows(step["y_pred"], len(batch[1]))
        return {**step, "y_pred": logits}

    def get_train_step_accumulator(self) -> FirstStepAccumulator:
        """Return an object that keeps the first step of an optimizer on a batch."""
        return FirstStepAccumulator() if self.watch_ is None else WatchedSteps(self.watch_)

    def validation_step(self, batch: epoch.Pair, **fit_params: object) -> dict[str, Tensor]:
        """Compute logits and loss of a block."""
        return epoch.validation_step(self, Batch(unpack_data(batch)))

    def run_single_epoch(
        self,
        iterator: Iterable[epoch.Pair] | None,
        training: bool,
        prefix: str,
        step_fn: Callable[[epoch.Pair], dict[str, Tensor]],
        **fit_params: object,
    ) -> None:
        """Run an epoch of training, or of validation if there are validation rows."""
        if iterator is None:
            return
        run = epoch.train if training else epoch.validate
        run(self, iterator, prefix, step_fn, partial(self._run_skorch_loop, training, prefix))

    def _run_skorch_loop(
        self,
        training: bool,
        prefix: str,
        iterator: Iterable[epoch.Pair],
        step_fn: Callable[[epoch.Pair], dict[str, Tensor]],
    ) -> None:
        super().run_single_epoch(iterator, training, prefix, step_fn)

    def has_own_train_step(self) -> bool:
        """Tell whether a subclass or an instance replaces the step on a batch."""
        return (
            type(self).train_step is not skorch.NeuralNet.train_step
            or type(self).train_step_single is not TrainingNet.train_step_single
            or not {"train_step", "train_step_single"}.isdisjoint(vars(self))
        )

    def set_training(self, training: bool) -> None:
        """Set network and loss to training or evaluation mode."""
        # torch sets each layer anew, which takes a good part of the prediction of one image.
        parts = (self.module_, self.criterion_)
        if any(layer.training != training for part in parts for layer in layers_of(part)):
            self._set_training(training)

    def _step_optimizer(self, step_fn: Callable[[], Tensor]) -> None:
        if self.scaler_ is None:
            super()._step_optimizer(step_fn)
        else:
            step_fn()
            gradient.step_optimizer(self)

    # Prediction ------------------------------------------------------------------------------

    @property
    def augments(self) -> bool:
        """Whether the images of training differ from the images of the data set."""
        return forward.augments(self)

    def augmented(self, images: Tensor) -> Tensor:
        """Draw crops of some images, and change them, as in training."""
        return forward.augmented(self, images)

    def check_feature_layer(self) -> None:
        """Refuse a name that no layer of the network has."""
        prediction.check_feature_layer(self)

    def try_out(self, images: Tensor) -> Any:
        """Compute the logits of a single row, and learn its memory and features in the network."""
        return prediction.try_out(self, images)

    def count_features(self) -> int:
        """Return the number of features of a row, or refuse a layer that gives no features."""
        return prediction.count_features(self)

    @property
    def block_size(self) -> int | None:
        """Number of rows to predict at once, in samples. Not known before :meth:`try_out`."""
        return prediction.block_size(self)

    def predict_rows(
        self,
        dataset: ImageDataset,
        function: Callable[[Tensor], Tensor],
        changes: Sequence[prediction.Change] = (),
    ) -> np.ndarray:
        """Compute a function of the logits of each row."""
        return prediction.predict_rows(self, dataset, function, changes)

    def random_passes(self, seeds: Iterable[int]) -> list[prediction.Change]:
        """Return the changes of training, each drawn once for all images."""
        return prediction.random_passes(self, seeds)

    def mirror_passes(self, axes: Collection[int]) -> list[prediction.Change]:
        """Return all mirror images over some spatial axes."""
        return prediction.mirror_passes(self, axes)

    def mirrored_axes(self, shape: Sequence[int]) -> list[int]:
        """Return the spatial axes along which training mirrored images of a shape."""
        axes = mirrored_axes(self.augmentation, len(shape))
        return sorted(axis for axis in axes if shape[axis] > 1)

    def features_of_rows(self, dataset: ImageDataset) -> np.ndarray:
        """Compute the input of the feature layer for each row."""
        if kept_features.are_on_disk(self):
            return kept_features.features_of(self, dataset)
        return prediction.features_of_rows(self, dataset)

    def slice_weights_of_rows(self, dataset: ImageDataset) -> np.ndarray:
        """Compute the weights of the slices of each row, where the network has such weights."""
        return prediction.slice_weights_of_rows(self, dataset)


def _run_or_resume(
    net: TrainingNet, rows: tuple[ImageDataset, ImageDataset | None], epochs: int
) -> None:
    """Run the epochs that a file does not hold already, or all if the file cannot be used."""
    n_done = 0 if net.resumption_ is None else net.resumption_.n_done
    before = generator_states(net.device)
    try:
        net.fit_loop(rows, epochs=epochs - n_done)
    except StateMismatchError:
        restore(before, net.device)
        net.fit_loop(rows, epochs=epochs)


def _copy_from_first(net: TrainingNet) -> None:
    """Copy the state of the first process, where a callback may have loaded a checkpoint."""
    if net.processes_.n_processes == 1:
        return
    parts = {"module": net.module_.state_dict(), "optimizer": net.optimizer_.state_dict()}
    first = net.processes_.broadcast({**parts, "history": net.history})
    if not net.processes_.is_first:
        net.module_.load_state_dict(first["module"])
        net.optimizer_.load_state_dict(first["optimizer"])
        net.history = first["history"]


def _can_be_saved(value: object) -> bool:
    """Tell whether torch can write a value to a file."""
    try:
        torch.save(value, io.BytesIO())
    except (AttributeError, TypeError, pickle.PicklingError):
        return False
    return True
