"""The skorch net inside the classifiers: whole batches, weighted losses, micro-batches, precision.

It lives in encoded labels (0 to ``n_classes - 1``) and in arrays that have been checked.
"""

import difflib
import io
import math
import pickle
import random
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import skorch
import torch
from skorch.callbacks import EarlyStopping
from skorch.dataset import unpack_data
from skorch.utils import get_map_location, to_tensor
from torch import Tensor, nn

from skimbal.augmentation import RandomCrop
from skimbal.losses import BatchLoss
from skimbal.networks import fold_batch_norm
from skimbal.training import processes as distributed
from skimbal.training.batches import BlockIterator, TrainIterator
from skimbal.training.callbacks import WRITERS, CosineSchedule, EpochProgress
from skimbal.training.dataset import ImageDataset
from skimbal.training.epoch import ONE_GRADIENT_A_STEP, follows_batches
from skimbal.training.gradient import split_batch
from skimbal.training.prediction import ACTIVATION_BYTES
from skimbal.training.random_state import is_cuda, seed_torch

__all__ = ["TrainingNet"]


class TrainingNet(skorch.NeuralNetClassifier):  # type: ignore[misc]
    """skorch's classifier, trained on a pair of data sets that has been split already.

    Parameters
    ----------
    module : callable
        Makes the network.
    micro_batch_size : int, default=None
        Rows that are in memory at once, in samples; all of the batch if None.
    autocast : torch.dtype, default=None
        Low precision to compute the network in; the loss stays in float32.
    compiled : bool, default=False
        Whether the network is compiled when :meth:`compile_module` is called.
    feature_layer : str, default=None
        Name of the layer of the network whose input :meth:`features_of_rows` computes; the last
        linear layer that runs if None.
    augmentation : tuple of torch.nn.Module, default=()
        What changes the images of a batch in training, one after the other, after a random crop if
        the module crops.
    **kwargs : dict
        As for :class:`skorch.NeuralNetClassifier`.
    """

    verbose: int
    history: Any

    def __init__(
        self,
        module: Any,
        *args: Any,
        micro_batch_size: int | None = None,
        autocast: torch.dtype | None = None,
        compiled: bool = False,
        feature_layer: str | None = None,
        augmentation: tuple[nn.Module, ...] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(module, *args, **kwargs)
        self.micro_batch_size = micro_batch_size
        self.autocast = autocast
        self.compiled = compiled
        self.feature_layer = feature_layer
        # Not a part of module_: its tensors are no weights, and functions would not be pickled.
        self.augmentation = augmentation

    def compile_module(self) -> None:
        """Let torch compile the network when it is first called, where that is asked for."""
        if self.compiled:
            # In place: the names of the weights stay, and copies and pickles are not compiled.
            self.module_.compile(**self.get_params_for("compile"))

    def initialize(self) -> "TrainingNet":
        """Initialise all components."""
        super().initialize()
        # A scheduler holds the optimiser. Pickled in one piece they keep being one optimiser. The
        # names are prefixes: a criterion and callbacks given as instances are used as they are,
        # so without the underscore the same tensors would be pickled for their device elsewhere.
        self.cuda_dependent_attributes_: list[str] = [
            *(name for name in self.cuda_dependent_attributes_ if name != "criterion_"),
            "criterion",
            "callbacks",
            "scaler",
        ]
        #: Size of the largest output of a layer for one row, in bytes.
        self.activation_bytes_: int | None = None
        #: Name of the layer whose input the features are, and their number if they are rows.
        self.feature_layer_: str | None = None
        self.n_features_: int | None = None
        #: Epochs that were trained before the history begins, and share of the present one.
        self.epochs_before_, self.progress_ = 0, 0.0
        #: Whether several processes train this net at present.
        self.together_ = False
        #: Keeps small gradients of float16 from becoming zero.
        self.scaler_: torch.amp.GradScaler | None = None
        if self.autocast is torch.float16:
            self.scaler_ = torch.amp.GradScaler(torch.device(self.device).type)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, with all that holds tensors in one piece that torch can move."""
        state = dict(vars(self))
        prefixes = tuple(self.cuda_dependent_attributes_)
        if self.augmentation and _pickles(self.augmentation):
            # If not, this is for a copy: there is none to be loaded on another machine.
            prefixes += ("augmentation",)
        with_tensors = {name: state.pop(name) for name in vars(self) if name.startswith(prefixes)}
        blob = io.BytesIO()
        torch.save(with_tensors, blob)
        return {**state, "with_tensors": blob.getvalue()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state, on the CPU where the device of old is missing."""
        state = dict(state)
        location = get_map_location(state["device"])
        state["device"] = self._check_device(state["device"], location)
        blob = io.BytesIO(state.pop("with_tensors"))
        # Who unpickles the net trusts it already. (Older skorch leaves it to torch's default, which
        # newer torch has turned around.)
        state.update(torch.load(blob, map_location=location, weights_only=False))
        self.__dict__.update(state)

    def train_epochs(
        self,
        train: ImageDataset,
        valid: ImageDataset | None,
        epochs: int,
        together: bool = False,
    ) -> "TrainingNet":
        """Train for some epochs; unlike ``fit``, let an interrupt through to the caller.

        Parameters
        ----------
        train, valid : ImageDataset
            The rows, the same in all processes; ``valid`` may be None.
        epochs : int
            Their number.
        together : bool, default=False
            Whether all processes of torch's default group train this net.
        """
        verbose = self.verbose
        self.together_ = together
        if together and distributed.rank() > 0:
            self.verbose = 0
        try:
            return self._train_epochs(train, valid, epochs)
        finally:
            self.together_, self.verbose = False, verbose

    def _train_epochs(
        self, train: ImageDataset, valid: ImageDataset | None, epochs: int
    ) -> "TrainingNet":
        if self.scaler_ is not None:
            # An interrupt may have left the old one in the middle of a step.
            scale = self.scaler_.get_scale()
            device = torch.device(self.device).type
            self.scaler_ = torch.amp.GradScaler(device, init_scale=scale)
        self.stops_early_ = False
        self.notify("on_train_begin", X=train, y=train.y)
        self._take_over()
        try:
            self.fit_loop((train, valid), epochs=epochs)
        except KeyboardInterrupt:
            # With several processes it is what all have agreed on that counts.
            if not (self.stops_early_ if self.together_ else self._says_stop()):
                raise
        finally:
            self.notify("on_train_end", X=train, y=train.y)
        self._take_over()
        return self

    def _says_stop(self) -> bool:
        """Tell whether a KeyboardInterrupt is how EarlyStopping says that it is time."""
        return any(
            isinstance(callback, EarlyStopping) and callback.misses_ == callback.patience
            for _, callback in self.callbacks_
        )

    def _take_over(self) -> None:
        """Take over what the first process has, where a callback may have loaded a checkpoint."""
        if not self.together_:
            return
        parts = {"module": self.module_.state_dict(), "optimizer": self.optimizer_.state_dict()}
        first = distributed.from_first({**parts, "history": self.history}, self.device)
        if distributed.rank() > 0:
            self.module_.load_state_dict(first["module"])
            self.optimizer_.load_state_dict(first["optimizer"])
            self.history = first["history"]

    def notify(self, method_name: str, **cb_kwargs: Any) -> None:
        """Call the callbacks; where several processes train, an end of one is an end of all."""
        if not self.together_:
            super().notify(method_name, **cb_kwargs)
            return
        is_first = distributed.rank() == 0
        interrupt: KeyboardInterrupt | None = None
        try:
            getattr(self, method_name)(self, **cb_kwargs)
            for _, callback in self.callbacks_:
                if is_first or not isinstance(callback, WRITERS):
                    getattr(callback, method_name)(self, **cb_kwargs)
        except KeyboardInterrupt as error:
            if method_name != "on_epoch_end":
                raise
            interrupt = error
        if method_name == "on_epoch_end":
            reason = 0 if interrupt is None else 1 if self._says_stop() else 2
            reason = distributed.largest(reason, self.device)
            self.stops_early_ = reason == 1
            if reason:
                raise interrupt or KeyboardInterrupt

    def on_batch_end(
        self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Record the size of the whole batch, of which this process may have a part."""
        if training and self.together_:
            self.history.record_batch("train_batch_size", len(batch[1]))

    def end_schedule(self) -> None:
        """Drop what spans the epochs of one ``fit``; go back to the learning rate before it."""
        kept: list[tuple[str, Any]] = []
        for name, callback in vars(self)["callbacks_"]:
            if isinstance(callback, CosineSchedule):
                for group in self.optimizer_.param_groups:
                    group["lr"] = group["initial_lr"]
            elif not isinstance(callback, EpochProgress):
                kept.append((name, callback))
        self.callbacks_ = kept

    def check_data(self, X: Any, y: Any = None) -> None:
        """Trust the classifier, which has checked the data."""

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
        """Return the pair that the classifier has split."""
        return X

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the iterator over the batches, which knows the device if it is one of ours."""
        iterator = super().get_iterator(dataset, training=training)
        if isinstance(iterator, TrainIterator | BlockIterator):
            iterator.to(self.device)
        if isinstance(iterator, BlockIterator):
            iterator.block_size = self.block_size
        if training and self.together_:
            # The batches have drawn their seed, the same everywhere. What a network draws is to
            # differ from one process to the next.
            iterator.shared = True
            seed_torch(int(torch.randint(2**31 - 1, ())) + distributed.rank(), self.device)
        return iterator

    def check_feature_layer(self) -> None:
        """Refuse a name that no layer of the network has."""
        names = dict(self.module_.network.named_modules(remove_duplicate=False))
        if self.feature_layer is not None and self.feature_layer not in names:
            near = difflib.get_close_matches(self.feature_layer, names, n=5, cutoff=0.5)
            hint = f"Near names are {near}" if near else f"The last layers are {[*names][-5:]}"
            raise ValueError(
                f"feature_layer={self.feature_layer!r} is no layer of the network. {hint}; all of "
                "them are the names in named_modules() of the network that module makes."
            )

    def try_out(self, images: Tensor) -> Any:
        """Compute the logits of a single row; learn what it takes in memory, and its features."""
        sizes: list[int] = []
        network, wanted = self.module_.network, self.feature_layer
        names = {layer: name for name, layer in network.named_modules()}
        if wanted is not None:
            names = {network.get_submodule(wanted): wanted}

        def note(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            sizes.extend(x.nbytes for x in (*inputs, output) if isinstance(x, Tensor))
            if module in names and (wanted is not None or isinstance(module, nn.Linear)):
                # The last call is the one that counts, as the features of a block are its input.
                self.feature_layer_, self.n_features_ = names[module], None
                first = inputs[0] if inputs else None
                if isinstance(first, Tensor) and first.ndim > 0 and len(first) == 1:
                    self.n_features_ = first.numel()

        handles = [layer.register_forward_hook(note) for layer in self.module_.modules()]
        self._set_training(False)
        try:
            with torch.no_grad():
                logits = self.infer(images)
        finally:
            for handle in handles:
                handle.remove()
        self.activation_bytes_ = max(sizes)
        return logits

    def count_features(self) -> int:
        """Return the number of features of a row, or say why it has none."""
        if self.feature_layer_ is None and self.feature_layer is None:
            raise ValueError(
                "the network runs no torch.nn.Linear, whose input would be the features; name a "
                "layer in feature_layer, and fit again."
            )
        if self.n_features_ is None:
            name = self.feature_layer if self.feature_layer_ is None else self.feature_layer_
            found = "does not run" if self.feature_layer_ is None else "gets something else"
            raise ValueError(
                f"the input of the layer {name!r} is to be the features, a tensor with one entry "
                f"along its first axis for each row, but in a prediction this layer {found}; name "
                "another one in feature_layer, and fit again."
            )
        return self.n_features_

    @property
    def block_size(self) -> int | None:
        """Number of rows to predict at once, in samples; not known before :meth:`try_out`."""
        if self.activation_bytes_ is None:
            return None
        kind = torch.device(self.device).type
        least, greatest = ACTIVATION_BYTES.get(kind, ACTIVATION_BYTES["cpu"])
        weights = sum(parameter.nbytes for parameter in self.module_.parameters())
        n_rows: int = min(greatest, max(least, 4 * weights)) // self.activation_bytes_
        # Not one: torch convolves a single volume on a single thread three times as slowly.
        return max(2, min(1024, n_rows))

    def infer(self, x: Any, **fit_params: Any) -> Tensor:
        """Compute the logits of a batch, in float32 or better."""
        if isinstance(x, Mapping):
            x = x["X"]
        if self.module_.training and self.augments:
            # Here, so that it is neither compiled nor computed in low precision.
            x = self.augmented(x)
        with self._precision():
            if isinstance(x, Tensor):  # skorch would look for the many kinds that a batch might be
                x = x.to(self.device)
                if self.compiled:
                    # Code for images of any size, which the compiler would make of the second size
                    # in a process, is not what it can make for this layout.
                    torch._dynamo.mark_static(x, list(range(1, x.ndim)))
                logits: Tensor = self.module_(x, **fit_params)
            else:
                logits = super().infer(x, **fit_params)
        if isinstance(logits, Tensor) and self.autocast is not None:
            logits = logits.float()
        return logits

    @property
    def augments(self) -> bool:
        """Whether the images of training are others than those of the data set."""
        return len(self.augmentation) > 0 or self.module_.crop_size is not None

    @torch.no_grad()
    def augmented(self, images: Any) -> Any:
        """Draw crops of some images, and change them, as in training."""
        dtype, crop_size = self.module_.dtype, self.module_.crop_size
        # A copy, as a callable of the user's may change it in place.
        images = to_tensor(images, device=self.device).to(dtype, copy=crop_size is None)
        if crop_size is not None:
            images = RandomCrop(crop_size)(images)
        for step in self.augmentation:
            images = step(images)
        return images

    def predict_rows(
        self, dataset: ImageDataset, function: Callable[[Tensor], Tensor], n_passes: int = 1
    ) -> np.ndarray:
        """Compute a function of the logits of each row.

        Parameters
        ----------
        dataset : ImageDataset
            The rows.
        function : callable
            Of the logits of a block, of shape (n_rows, n_classes); its result has as many rows.
        n_passes : int, default=1
            The first one sees the images as they are, others augmented ones. The logits of several
            are the logarithm of the mean of their probabilities.

        Returns
        -------
        result : ndarray of shape (n_samples, ...)
            Nothing else is as large as the data set.
        """
        self._set_training(False)
        # To fold takes as long as it saves in some blocks.
        pays = n_passes * len(dataset) > 4 * (self.block_size or len(dataset))
        with torch.inference_mode():
            infer = self._fast_infer() if pays else self.infer
        if n_passes == 1:
            return self._in_blocks(dataset, lambda x: function(infer(x)))

        def mean_of_passes(x: Any) -> Tensor:
            x = x["X"] if isinstance(x, Mapping) else x
            passes = [infer(x), *(infer(self.augmented(x)) for _ in range(n_passes - 1))]
            log_proba = torch.stack(passes).log_softmax(-1)  # (n_passes, n_rows, n_classes)
            return log_proba.logsumexp(0) - math.log(n_passes)

        return self._in_blocks(dataset, lambda x: function(mean_of_passes(x)))

    def features_of_rows(self, dataset: ImageDataset) -> np.ndarray:
        """Compute the input of the feature layer for each row.

        Parameters
        ----------
        dataset : ImageDataset
            The rows.

        Returns
        -------
        features : ndarray of shape (n_samples, n_features)
            In float32 or better.

        Raises
        ------
        ValueError
            If there is no such layer, or its input has no rows.
        """
        self.count_features()
        assert self.feature_layer_ is not None
        self._set_training(False)
        network, thread = self.module_.network, threading.get_ident()
        kept: list[Tensor] = []

        def keep(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            if threading.get_ident() == thread:  # and not for a prediction in another one
                # A copy, since what comes after may compute in its place.
                kept[:] = [inputs[0].reshape(len(inputs[0]), -1).clone()]

        # Not by way of a compiled module, whose code knows no hook that comes later.
        infer = self._infer_with(network)

        def features(x: Any) -> Tensor:
            kept.clear()
            infer(x)
            if not kept:
                raise ValueError(
                    f"the layer {self.feature_layer_!r}, whose input is the features, did not run "
                    "for some rows; name another one in feature_layer, and fit again."
                )
            return kept[0].to(torch.promote_types(kept[0].dtype, torch.float32))

        with network.get_submodule(self.feature_layer_).register_forward_pre_hook(keep):
            return self._in_blocks(dataset, features)

    def _in_blocks(self, dataset: ImageDataset, compute: Callable[[Any], Tensor]) -> np.ndarray:
        """Compute something of the images of each block, and join the results in one array."""
        iterator = self.get_iterator(dataset, training=False)
        result, start = None, 0
        with torch.inference_mode():
            for batch in iterator:
                block = compute(unpack_data(batch)[0])
                if result is None:
                    # It stays on the device, which would else have to wait after each block.
                    result = block.new_empty((len(dataset), *block.shape[1:]))
                result[start : start + len(block)] = block
                start += len(block)
        if result is None or start != len(dataset):
            raise ValueError(
                f"iterator_valid gave {start} rows to predict of {len(dataset)}; it must give all "
                "of them in order (drop_last=False, shuffle=False)."
            )
        return result.numpy(force=True)

    def _fast_infer(self) -> Callable[[Any], Tensor]:
        """Return what computes logits with batch normalisation folded, where that can be done."""
        network = self.module_.network
        folded = network if self.compiled else fold_batch_norm(network)
        return self.infer if folded is network else self._infer_with(folded)

    def _infer_with(self, network: nn.Module) -> Callable[[Any], Tensor]:
        """Return what computes logits with a network, behind the same preparation of images."""
        module = self.module_

        def infer(x: Any) -> Tensor:
            with self._precision():
                logits: Tensor = network(module.prepare(to_tensor(x, device=self.device)))
            return logits if self.autocast is None else logits.float()

        return infer

    def get_loss(
        self, y_pred: Tensor, y_true: Tensor, X: Any = None, training: bool = False
    ) -> Any:
        """Compute the loss, with the weights that come with the images."""
        return self._share_of_loss(y_pred, y_true, X, len(y_true), training)

    def _share_of_loss(
        self, y_pred: Tensor, y_true: Tensor, X: Any, n_rows: int, training: bool
    ) -> Any:
        """Compute what some rows add to the loss of a batch of ``n_rows``, often all of them."""
        criterion: BatchLoss = self.criterion_
        n_epochs = self.epochs_before_ + len(self.history) - 1 + self.progress_
        return criterion(
            y_pred,
            y_true.to(y_pred.device),
            X["sample_weight"].to(y_pred) if isinstance(X, Mapping) else None,
            # Weights have mean 1 over the training rows: a batch of light rows counts for less.
            normalizer=n_rows,
            ce_share=criterion.ce_share(n_epochs, self.max_epochs) if training else 0.0,
            sum_over_parts=distributed.sum_over_parts if training and self.together_ else None,
        )

    def _adds_up(self, X: Any) -> bool:
        """Tell whether the loss of a batch is the sum of what its parts add to it."""
        criterion: BatchLoss = self.criterion_
        return criterion.adds_up(weighted=isinstance(X, Mapping))

    def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Compute the gradient of a batch in training mode."""
        self._set_training(True)
        step = self._backward(batch, **fit_params)
        if self.together_:
            # Callbacks score it with the labels of the whole batch.
            step["y_pred"] = distributed.whole(step["y_pred"].detach(), len(batch[1]))
        return step

    def validation_step(self, batch: Any, **fit_params: Any) -> Any:
        """Compute logits and loss of a block, of which each process computes its part."""
        if not self.together_:
            return super().validation_step(batch, **fit_params)
        X, y = unpack_data(batch)
        images = (X["X"] if isinstance(X, Mapping) else X)[distributed.own_rows(len(y))]
        self._set_training(False)
        with torch.no_grad():
            part = self.infer(images, **fit_params) if len(images) else self._no_logits()
            y_pred = distributed.whole(part, len(y))
            return {"loss": self.get_loss(y_pred, y, X=X), "y_pred": y_pred}

    def _backward(self, batch: Any, **fit_params: Any) -> dict[str, Tensor]:
        """Compute the gradient of a batch, in parts if the batch is larger than they may be."""
        X, y = unpack_data(batch)
        n_rows = len(y)
        if self.together_:
            y = y[distributed.own_rows(n_rows)]
        # By their number of rows processes may take different paths here. Each path sends the
        # same messages: one from within a loss of sets, which is called once, then the gradients.
        if self.micro_batch_size is None or len(y) <= self.micro_batch_size:
            y_pred = self.infer(X, **fit_params) if len(y) else self._no_logits()
            loss = self._share_of_loss(y_pred, y, X, n_rows, training=True)
            self._scaled(loss).backward()
        else:
            n_parts = -(-len(y) // self.micro_batch_size)
            in_parts = self._backward_in_one_pass if self._adds_up(X) else self._backward_in_two
            loss, y_pred = in_parts(X, y, n_rows, n_parts, **fit_params)
        if self.together_:
            parameters = [p for _, p in self.get_all_learnable_params() if p.requires_grad]
            loss = distributed.average_gradients(parameters, loss)
        self._unscale()
        return {"loss": loss, "y_pred": y_pred}

    def _no_logits(self) -> Tensor:
        """Return the logits of no rows, for a process that has none: not every network can."""
        dtype = torch.promote_types(self.module_.dtype, torch.float32)
        shape = (0, len(self.classes))
        return torch.zeros(shape, dtype=dtype, device=self.device, requires_grad=True)

    def _backward_in_one_pass(
        self, X: Any, y: Tensor, n_rows: int, n_parts: int, **fit_params: Any
    ) -> tuple[Tensor, Tensor]:
        losses, logits = [], []
        for part, labels in zip(split_batch(X, n_parts), y.tensor_split(n_parts), strict=True):
            y_pred = self.infer(part, **fit_params)
            loss = self._share_of_loss(y_pred, labels, part, n_rows, training=True)
            self._scaled(loss).backward()
            losses.append(loss.detach())
            logits.append(y_pred.detach())
        return torch.stack(losses).sum(), torch.cat(logits)

    def _backward_in_two(
        self, X: Any, y: Tensor, n_rows: int, n_parts: int, **fit_params: Any
    ) -> tuple[Tensor, Tensor]:
        """Compute all logits, the gradient by them, and then carry it back part by part.

        The loss is a function of the whole batch, so averaging the losses of the parts would
        minimise something else. The graph of the first part is kept; all others are computed again.
        """
        first, *others = split_batch(X, n_parts)
        y_first = self.infer(first, **fit_params)
        kept = {name: buffer.clone() for name, buffer in self.module_.named_buffers()}
        states, logits = [], [y_first.detach()]
        with torch.no_grad():
            for part in others:
                states.append(self.random_state())
                logits.append(self.infer(part, **fit_params))
            # Running statistics are to see each part once. (By way of data, as the graph that is
            # kept would take it for a change of what it was computed with.)
            for name, buffer in self.module_.named_buffers():
                buffer.data.copy_(kept[name])
        y_pred = torch.cat(logits).requires_grad_()
        loss = self._share_of_loss(y_pred, y, X, n_rows, training=True)
        self._scaled(loss).backward()
        assert y_pred.grad is not None
        gradient, *gradients = y_pred.grad.tensor_split(n_parts)
        torch.autograd.backward(y_first, gradient)
        for part, state, gradient in zip(others, states, gradients, strict=True):
            self.random_state(state)
            torch.autograd.backward(self.infer(part, **fit_params), gradient)
        return loss.detach(), y_pred.detach()

    def _scaled(self, loss: Any) -> Any:
        return loss if self.scaler_ is None else self.scaler_.scale(loss)

    def _unscale(self) -> None:
        """Bring the gradients back to their size, before a callback clips them."""
        if self.scaler_ is not None:
            self.scaler_.unscale_(self.optimizer_)

    def _step_optimizer(self, step_fn: Callable[[], Any] | None) -> None:
        if self.scaler_ is None:
            super()._step_optimizer(step_fn)
            return
        if step_fn is not None:
            step_fn()
        # No step where a gradient has overflown.
        self.scaler_.step(self.optimizer_)
        self.scaler_.update()

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **fit_params: Any
    ) -> None:
        """Run an epoch; the validation loss is that of all validation rows at once."""
        if training:
            watched = self._watched(iterator)
            try:
                if self._only_epochs_matter():
                    self._run_training_epoch(watched, prefix, **fit_params)
                else:
                    super().run_single_epoch(watched, True, prefix, step_fn, **fit_params)
            finally:
                if isinstance(iterator, TrainIterator):
                    self.history.record("incomplete_batch_count", iterator.n_incomplete)
                    self.history.record("one_class_batch_count", iterator.n_of_one_class)
            if self.together_:
                distributed.share_buffers(self.module_)
            return
        if iterator is None:
            super().run_single_epoch(iterator, training, prefix, step_fn, **fit_params)
            return
        logits, labels, weights = [], [], []

        def step_and_keep(batch: Any, **fit_params: Any) -> Any:
            step = step_fn(batch, **fit_params)
            X, y = unpack_data(batch)
            logits.append(step["y_pred"])
            labels.append(y)
            if isinstance(X, Mapping):
                weights.append(X["sample_weight"])
            return step

        super().run_single_epoch(iterator, training, prefix, step_and_keep, **fit_params)
        X = {"sample_weight": torch.cat(weights)} if weights else None
        with torch.no_grad():
            loss = self.get_loss(torch.cat(logits), torch.cat(labels), X=X).item()
        # skorch averages over blocks, which is not the loss where it is a function of the set.
        for block in self.history[-1]["batches"]:
            if f"{prefix}_loss" in block:
                block[f"{prefix}_loss"] = loss

    def _watched(self, iterator: Any) -> Iterator[Any]:
        """Yield the batches of an epoch, and keep account of how far it is."""
        n_batches = len(iterator) if hasattr(iterator, "__len__") else 0
        for i, batch in enumerate(iterator):
            # Half, where nobody knows.
            self.progress_ = min(i / n_batches, 1.0) if n_batches else 0.5
            yield batch

    def _only_epochs_matter(self) -> bool:
        """Tell whether nobody looks at single batches, nor changes how they are trained on."""
        return (
            type(self).train_step is skorch.NeuralNet.train_step
            and type(self).train_step_single is TrainingNet.train_step_single
            and not {"train_step", "train_step_single"} & set(vars(self))
            # Others may evaluate the gradient several times in a step, as LBFGS does.
            and type(self.optimizer_) in ONE_GRADIENT_A_STEP
            and not any(follows_batches(callback) for _, callback in self.callbacks_)
        )

    def _run_training_epoch(self, iterator: Any, prefix: str, **fit_params: Any) -> None:
        """Train as skorch does, but do once what it does for each batch.

        The losses stay on the device until the epoch has ended: to read one waits for all that
        has been asked of the device before.
        """
        self._set_training(True)
        groups = self.optimizer_.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        losses, sizes = [], []
        try:
            for batch in iterator:
                for parameter in parameters:
                    parameter.grad = None
                step = self._backward(batch, **fit_params)
                self._step_optimizer(None)
                losses.append(step["loss"].detach())
                sizes.append(len(batch[1]))
        finally:  # an interrupt loses no batch of the history
            values = torch.stack(losses).tolist() if losses else []
            self.history[-1]["batches"] += [
                {f"{prefix}_loss": loss, f"{prefix}_batch_size": size}
                for loss, size in zip(values, sizes, strict=True)
            ]
        self.history.record(f"{prefix}_batch_count", len(sizes))

    def _precision(self) -> AbstractContextManager[Any]:
        if self.autocast is None:
            return nullcontext()
        return torch.autocast(torch.device(self.device).type, dtype=self.autocast)

    def random_state(self, state: tuple[Any, ...] | None = None) -> Any:
        """Return the state of the generators of python, numpy and torch, or go back to one."""
        if state is None:
            cuda_state = torch.cuda.get_rng_state(self.device) if is_cuda(self.device) else None
            python_and_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
            return *python_and_numpy, torch.get_rng_state(), cuda_state
        python_state, numpy_state, torch_state, cuda_state = state
        random.setstate(python_state)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(torch_state)
        if cuda_state is not None:
            torch.cuda.set_rng_state(cuda_state, self.device)
        return None


def _pickles(thing: Any) -> bool:
    try:
        torch.save(thing, io.BytesIO())
    except (AttributeError, TypeError, pickle.PicklingError):
        return False
    return True
