"""Names that other libraries use for parameters and values, and the names of this package."""

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import ParamSpec, TypeVar, get_args

__all__ = [
    "advice_on_name",
    "advice_on_term",
    "advice_on_value",
    "explains_names",
    "meant_values",
    "refuse_unknown_params",
    "unknown_argument",
]

P = ParamSpec("P")
R = TypeVar("R")

#: Parameters of the classifiers, each with its names in Keras, torch, Lightning, MONAI, skorch,
#: fastai, scikit-learn, XGBoost and Hugging Face. Case and underscores do not count.
_CLASSIFIER: Mapping[str, str] = {
    "augment": "aug augmentation augmentations augmenter data_augmentation image_transform "
    "train_transform train_transforms transform transforms batch_tfms item_tfms tfms",
    "batch_size": "batch bs mini_batch_size minibatch_size n_batch per_device_train_batch_size "
    "train_batch_size",
    "callbacks": "callback cbs",
    "class_weight": "class_weights cls_weight weight_classes scale_pos_weight pos_weight",
    "compile": "jit_compile torch_compile",
    "crop_size": "crop patch patch_size patch_shape roi_size spatial_size window_size",
    "device": "accelerator devices gpu_id gpu_ids",
    "distributed": "ddp multi_gpu parallel strategy",
    "dtype": "amp bf16 fp16 half mixed_precision precision use_amp",
    "epoch_length": "limit_train_batches n_batches_per_epoch steps_per_epoch",
    "feature_layer": "embedding_layer feature_layers layer_name return_layer",
    "input_shape": "image_shape img_shape in_shape input_dim input_dims shape",
    "logit_adjustment": "logit_adjust tau",
    "loss": "criterion loss_fct loss_fn loss_func loss_function losses objective",
    "lr": "alpha_init base_lr eta eta0 init_lr initial_lr learning_rate learning_rate_init "
    "max_lr lr_max step_size",
    "lr_schedule": "decay_schedule learning_rate_schedule lr_policy lr_sched lr_scheduler "
    "lr_scheduler_type scheduler schedule",
    "max_epochs": "epoch epochs max_epoch max_iter max_iters max_iterations n_epoch n_epochs "
    "n_estimators n_iter nb_epoch nb_epochs num_boost_round num_epoch num_epochs num_iterations "
    "num_train_epochs train_epochs",
    "micro_batch_size": "accumulate_grad_batches accumulation_steps grad_accum "
    "gradient_accumulation gradient_accumulation_steps iters_to_accumulate micro_batch",
    "module": "arch architecture base_model clf_model cnn model model_class model_fn model_name "
    "net_class net_arch network neural_network",
    "n_tta": "test_time_augmentation tta tta_passes",
    "net": "module_kwargs net_params optimizer_kwargs optimizer_params skorch_params",
    "optimizer": "optim optimiser optimizer_class optimizer_cls opt opt_func solver",
    "random_state": "manual_seed random_seed rng rng_seed seed torch_seed",
    "sampler": "balance balanced_sampling batch_sampler oversample oversampling sampling "
    "sampling_strategy train_sampler undersample weighted_sampler",
    "standardize": "normalise normalization normalize norm_input rescale scale_input standardise",
    "train_split": "val_fraction val_size val_split valid_pct valid_size valid_split "
    "validation_fraction validation_size validation_split",
    "verbose": "enable_progress_bar print_every print_log progress progress_bar "
    "show_progress silent verbose_epochs verbosity",
    "warm_start": "continue_training reset",
}
#: The same of other classes and functions of the package.
_OTHERS: Mapping[str, str] = {
    "adapter": "adapter_size bottleneck",
    "architecture": "arch model model_name network",
    "axis": "dim plane slice_axis",
    "backbone": "base_model encoder model module net network",
    "backbone_lr_factor": "backbone_lr_ratio encoder_lr_factor lr_factor lr_mult",
    "cache": "cache_dir cache_folder",
    "cache_dir": "cache cachedir memory",
    "channels": "as_gray color_mode grayscale mode n_channels num_channels",
    "cv": "folds k_folds n_folds n_splits",
    "decisions": "decision threshold thresholds",
    "estimator": "clf classifier base_estimator model module net",
    "focal_gamma": "alpha_focal gamma",
    "freeze": "freeze_backbone freeze_encoder freeze_layers frozen trainable",
    "groups": "group group_ids patient patient_id patient_ids patients subject subjects",
    "image_size": "img_size input_size resolution resize",
    "label_smoothing": "label_smooth smoothing",
    "la_tau": "logit_adjustment tau",
    "ldam_margin": "margin max_m",
    "losses": "criteria criterion loss loss_functions",
    "mean": "image_mean img_mean",
    "n_bootstraps": "bootstrap bootstraps n_boot n_bootstrap n_resamples n_samples",
    "n_jobs": "n_workers njobs num_workers threads workers",
    "n_repeats": "n_seeds n_trials repeats seeds",
    "neighbours": "context n_neighbors neighbors",
    "on_error": "errors",
    "options": "backbone_kwargs kwargs net_params params",
    "paths": "files filenames file_list image_files images",
    "pooling": "aggregation pool reduction",
    "random_state": "random_seed rng seed",
    "reader": "loader open_func",
    "sampler": "oversampler resampler",
    "sample_weight": "sample_weights weight weights",
    "samplers": "sampler sampling samplings",
    "scoring": "eval_metric metric metrics score scorer",
    "size": "image_size img_size input_size output_size resolution target_size",
    "source": "checkpoint ckpt model model_name name pretrained url weights",
    "spacing": "pixdim resample_spacing voxel_size",
    "statistics": "moving stats",
    "std": "image_std img_std",
    "transform": "preprocess preprocessing transforms",
    "verbose": "progress verbosity",
    "warmup_epochs": "n_warmup warmup warmup_steps",
}
#: Remedies for parameters that the classifiers do not have.
_IN_PLACE: Mapping[str, str] = {
    "early_stopping early_stop n_iter_no_change patience tol": "to stop early, pass "
    "callbacks=[skorch.callbacks.EarlyStopping(patience=10)] with train_split=0.2.",
    "cuda gpu gpus use_cuda use_gpu": "to compute on a GPU of NVIDIA, pass device='cuda'.",
    "data_workers dataloader_workers n_workers num_workers workers": "to read images ahead, pass "
    "net={'iterator_train__num_workers': 4}.",
    "n_jobs n_threads num_threads threads": "the number of threads is torch.set_num_threads(4), "
    "and searches have n_jobs.",
    "decay l2 l2_regularization weight_decay wd alpha": "pass net={'optimizer__weight_decay': "
    "1e-4}.",
    "betas beta1 beta2 eps momentum nesterov amsgrad": "options of the optimizer are keys of net, "
    "such as net={'optimizer__momentum': 0.9}.",
    "clip_grad clip_grad_norm clip_value clipnorm clipvalue gradient_clip_val grad_clip "
    "max_grad_norm": "to clip gradients, pass "
    "callbacks=[skorch.callbacks.GradientNormClipping(1.0)].",
    "checkpoint checkpoint_dir ckpt_path default_root_dir model_dir output_dir save_best "
    "save_dir": (
        "to go on after a crash, pass callbacks=[skimbal.callbacks.Resume(folder)]. To write a "
        "model, call save after fit."
    ),
    "log_dir logger loggers tensorboard wandb": "pass a logger of skorch.callbacks, such as "
    "callbacks=[skorch.callbacks.TensorBoard(writer)].",
    "eval_metric metric metrics monitor scoring": "to score each epoch, pass "
    "callbacks=[skorch.callbacks.EpochScoring('balanced_accuracy', lower_is_better=False)]. "
    "Searches have scoring.",
    "c_in channels in_chans in_channels in_features input_channels n_channels num_channels "
    "n_input_channels": "fit takes the number of channels from X.",
    "c_out classes n_class n_classes n_outputs num_class num_classes num_outputs out_channels "
    "out_features output_dim": "fit takes the classes from y.",
    "dim dimensions n_dims ndim spatial_dims": "use CNN2DClassifier for images and "
    "CNN3DClassifier for volumes.",
    "drop_last pin_memory shuffle": "training rows are always drawn anew in each epoch. sampler "
    "and epoch_length decide about them.",
    "pretrained weights checkpoint_path load_weights freeze freeze_backbone freeze_encoder "
    "backbone backbone_lr_factor image_size img_size resolution source unfreeze_at": "for weights "
    "from elsewhere, pass module=Pretrained('timm/resnet18', freeze='backbone').",
    "depth dropout filters n_filters n_layers norm num_filters num_layers width": "options of the "
    "network are keys of net, such as net={'module__width': 32}.",
    "cb_beta drw drw_start focal_alpha focal_gamma gamma horizon label_smoothing la_tau "
    "ldam_margin smoothing statistics warmup_epochs": "it belongs to the loss, such as "
    "loss=LossMix(ce=1, label_smoothing=0.1).",
    "eval_set validation_data val_data valid_data": "pass "
    "train_split=skorch.helper.predefined_split(skorch.dataset.Dataset(X_valid, y_valid)).",
    "warmup warmup_ratio warmup_steps num_warmup_steps": "lr_schedule='one_cycle', the default, "
    "warms up over the first quarter of the steps.",
    "mamix mixup mixup_alpha remix": "augment mixes images and labels, such as "
    "augment=['light', 'mixup'].",
    "cutmix": "augment takes a callable, which changes the images of a batch.",
    "group groups patient_ids patients sample_weight sample_weights": "it goes to fit, such as "
    "fit(X, y, groups=patients).",
    "positive_class pos_label threshold": "decisions are the job of skimbal.thresholds.",
}

#: Values that are names, each with its names elsewhere. Case and underscores do not count.
_VALUES: Mapping[str, Mapping[str, str]] = {
    "loss": {
        "'ce'": "bce bce_loss bce_with_logits bce_with_logits_loss binary_crossentropy "
        "categorical_crossentropy crossentropy crossentropyloss cross_entropy_loss log_loss "
        "logistic neg_log_likelihood nll nll_loss softmax sparse_categorical_crossentropy xent",
        "'wce'": "balanced_ce class_weighted_ce weighted weighted_ce weighted_cross_entropy "
        "weighted_bce",
        "'focal'": "binary_focal binary_focal_crossentropy focal_loss focalloss sigmoid_focal_loss",
        "'f1'": "dice dice_loss f1_loss f1_macro f1_score soft_dice soft_f1 jaccard iou",
        "'ce+f1'": "ce_dice dice_bce dice_ce dice_ce_loss bce_dice",
        "'focal+f1'": "dice_focal dice_focal_loss focal_dice",
        "'mcc'": "matthews matthews_corrcoef mcc_loss soft_mcc",
        "'la'": "logit_adjusted logit_adjusted_ce logit_adjusted_loss logit_adjustment",
        "'balanced_softmax'": "balanced_softmax balanced_softmax_loss bal_softmax bsm",
        "'ldam'": "label_distribution_aware_margin ldam_loss",
        "'ldam_drw'": "ldam_drw ldam_drw_loss",
        "'drw'": "ce_drw deferred_reweighting",
        "'cb'": "cb_ce cb_loss class_balanced class_balanced_loss effective_number",
        "'cb_focal'": "cb_focal cb_focal_loss class_balanced_focal",
        "torch.nn.MultiMarginLoss()": "hinge multi_margin multiclass_hinge svm",
    },
    "sampler": {
        "'balanced'": "balance class_balanced classbalanced equal over oversample oversampled "
        "oversampling ros upsample random_over",
        "'weighted'": "inverse_frequency weighted_random weighted_random_sampler weights",
        "'uniform'": "instance natural off none random random_sampler sequential shuffle",
        "'stratified'": "proportional stratify",
        "imblearn.under_sampling.RandomUnderSampler()": "downsample random_under rus under "
        "undersample undersampling",
        "NDSampler(SMOTE()) before the classifier in a pipeline": "adasyn smote synthetic",
    },
    "module": {
        "'auto'": "default none",
        "'small'": "basic cnn convnet lenet simple simple_cnn small_cnn smallcnn tiny",
        "'residual'": "res residual_cnn residualcnn resnet_small",
        "'resnet18'": "res_net18 resnet resnet10",
    },
    "net": {
        "'memory_format'": "channel_last channels_last data_format layout memory_layout nchw nhwc"
    },
    "memory_format": {
        "'channels_last'": "channels_last_3d innermost ndhwc nhwc torch.channels_last "
        "torch.channels_last_3d true",
        "'contiguous'": "channels_first contiguous_format ncdhw nchw torch.contiguous_format "
        "torch.preserve_format false",
        "'auto'": "default none",
    },
    "lr_schedule": {
        "'one_cycle'": "one_cycle_lr onecyclelr super_convergence warmup",
        "'cosine'": "cos cosine_annealing cosine_annealing_lr cosine_decay cosine_with_restarts",
        "None": "constant none off",
        "callbacks=[skorch.callbacks.LRScheduler('StepLR', step_size=10)]": "exponential "
        "exponential_lr linear multistep plateau poly reduce_lr_on_plateau step step_lr",
    },
    "augment": {
        "'flip'": "flips h_flip hflip horizontal_flip mirror random_flip",
        "'light'": "affine basic default rotate rotation simple weak yes true",
        "'strong'": "heavy strong_augment",
        "'trivial'": "auto_augment rand_augment trivial_augment trivial_augment_wide",
        "None": "false no none off",
        "'symmetries'": "d4 dihedral rot90",
    },
    "dtype": {
        "'float32'": "32 f32 float fp32 full single torch.float torch.float32 32_true",
        "'float64'": "64 double f64 fp64 torch.double torch.float64",
        "'float16'": "16 16_mixed amp f16 fp16 half mixed torch.float16 torch.half",
        "'bfloat16'": "bf16 bf16_mixed torch.bfloat16",
    },
    "n_tta": {"'flips'": "all flip mirror mirrors tta true", "1": "false no none off"},
    "standardize": {
        "True": "mean_std standard true yes z_score zscore",
        "False": "false no none off",
        "a Pretrained as module, which normalises its input": "imagenet",
    },
    "class_weight": {"'balanced'": "auto balance inverse inverse_frequency"},
    "head": {
        "'crt'": "balanced classifier_retraining default retrain retraining",
        "'lws'": "learnable_scaling learnable_weight_scaling scaling weight_scaling",
        "'tau'": "norm t_norm tau_norm tau_normalisation tau_normalization tau_normalized",
        "'ncm'": "centroid nearest_centroid nearest_class_mean nearest_mean",
        "LogisticRegression()": "linear logistic logistic_regression logreg lr",
        "KNeighborsClassifier()": "k_neighbors k_nn knn nearest_neighbors nearest_neighbours",
        "LinearSVC()": "linear_svc linear_svm svc svm",
    },
    "optimizer": {"'sgd'": "gd gradient_descent momentum nesterov", "'lbfgs'": "bfgs l_bfgs"},
}


#: Parts of a skorch net, whose options have their name before them.
_PARTS_OF_NET = frozenset(
    {"callbacks", "dataset", "iterator_train", "iterator_valid", "module", "optimizer"}
)


def _plain(name: str) -> str:
    """Return a name without case, underscores and the like."""
    return re.sub(r"[^a-z0-9.+]", "", name.lower())


def _by_foreign(table: Mapping[str, str]) -> dict[str, list[str]]:
    """Turn a table round: names elsewhere, without underscores, to names here."""
    found: dict[str, list[str]] = {}
    for here, others in table.items():
        for other in (*others.split(), here):
            found.setdefault(_plain(other), []).append(here)
    return found


#: Networks of timm and torchvision, which a name alone does not give.
_ELSEWHERE = re.compile(
    r"(alexnet|beit|coatnet|convnext|deit|densenet|efficientnet|googlenet|inception|maxvit|mnasnet|"
    r"mobilenet|regnet|resnest|resnet(50|101|152)|resnext|seresnet|shufflenet|squeezenet|swin|vgg|"
    r"vit|wide_?resnet|xception).*",
    re.IGNORECASE,
)

_CLASSIFIER_OF, _OTHER_OF = _by_foreign(_CLASSIFIER), _by_foreign(_OTHERS)
_IN_PLACE_OF = {_plain(n): text for names, text in _IN_PLACE.items() for n in names.split()}


def advice_on_name(name: str, known: Iterable[str]) -> str:
    """Say which parameter a name may mean.

    Parameters
    ----------
    name : str
        A name that is not a parameter.
    known : iterable of str
        Names of the parameters.

    Returns
    -------
    advice : str
        A question or a sentence that continues after a colon, or "".

    Examples
    --------
    >>> from skimbal.habits import advice_on_name
    >>> advice_on_name("epochs", ["lr", "max_epochs"]), advice_on_name("max_epoch", ["max_epochs"])
    ('did you mean max_epochs?', 'did you mean max_epochs?')
    """
    names, plain = list(known), _plain(name)
    meant = [here for table in (_CLASSIFIER_OF, _OTHER_OF) for here in table.get(plain, ())]
    here = [one for one in meant if one in names]
    if not here:
        here = [one for one in names if _plain(one) == plain]
    if here:
        return f"did you mean {' or '.join(dict.fromkeys(here))}?"
    is_classifier = {"max_epochs", "net", "callbacks"} <= set(names)
    is_fit = {"X", "y"} <= set(names) and "estimator" not in names
    if (is_classifier or is_fit) and plain in _IN_PLACE_OF:
        return _IN_PLACE_OF[plain]
    of_classifier = _CLASSIFIER_OF.get(plain)
    if of_classifier and not is_classifier:
        example = f"CNN2DClassifier({of_classifier[0]}=...)"
        passed = f", such as estimator={example}" if "estimator" in names else f": {example}"
        return f"{of_classifier[0]} is a parameter of the classifiers{passed}."
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.7)
    if not near:  # a misspelt name of another library
        table = {other: h for other, h in (_CLASSIFIER_OF | _OTHER_OF).items() if h[0] in names}
        near = [table[one][0] for one in difflib.get_close_matches(plain, table, n=2, cutoff=0.8)]
    return f"did you mean {' or '.join(dict.fromkeys(near))}?" if near else ""


def advice_on_value(parameter: str, value: object, known: Iterable[str] = ()) -> str:
    """Say which value of a parameter a name may mean.

    Parameters
    ----------
    parameter : str
        Name of the parameter.
    value : object
        A value that the parameter refuses.
    known : iterable of str, default=()
        Names that the parameter takes.

    Returns
    -------
    advice : str
        A question, or "".

    Examples
    --------
    >>> from skimbal.habits import advice_on_value
    >>> advice_on_value("loss", "CrossEntropyLoss")
    "Did you mean 'ce'?"
    >>> advice_on_value("sampler", "balancd", ["uniform", "balanced"])
    "Did you mean 'balanced'?"
    """
    values = meant_values(parameter, value, known)
    return f"Did you mean {' or '.join(values)}?" if values else ""


def meant_values(parameter: str, value: object, known: Iterable[str] = ()) -> list[str]:
    """Return the values that a name may mean, as Python spells them.

    Parameters
    ----------
    parameter, value, known
        As for :func:`advice_on_value`.

    Returns
    -------
    values : list of str
        At most two, the likeliest first.

    Examples
    --------
    >>> from skimbal.habits import meant_values
    >>> meant_values("augment", "no"), meant_values("sampler", "balancd", ["balanced"])
    (['None'], ["'balanced'"])
    """
    try:
        plain = _plain(str(value))
    except Exception:  # an object that fails to give its text
        return []
    for here, others in _VALUES.get(parameter, {}).items():
        if plain in map(_plain, others.split()):
            return [here]
    if not isinstance(value, str):
        return []
    if parameter == "module" and _ELSEWHERE.fullmatch(value):
        return [f"Pretrained('timm/{value}')"]
    by_plain = {_plain(one): one for one in known}
    near = difflib.get_close_matches(plain, by_plain, n=2, cutoff=0.6)
    return [repr(by_plain[one]) for one in near]


def advice_on_term(name: str, terms: Iterable[str], options: Iterable[str]) -> str:
    """Say which term or option of a sum of losses a name may mean, with a space behind, or ""."""
    of_parameter = advice_on_name(name, (*terms, *options))
    if of_parameter:
        return f"{of_parameter[0].upper()}{of_parameter[1:]} "
    of_value = advice_on_value("loss", name, terms)
    return f"{of_value} " if of_value else ""


def explains_names(function: Callable[P, R]) -> Callable[P, R]:
    """Refuse an unknown argument with the name that it may mean. The signature stays.

    A decorator of functions and of ``__init__``. An ``__init__`` of a subclass is as Python makes
    it. Keywords that a function passes on are known by the TypedDict that ``Unpack`` names.
    """
    parameters = inspect.signature(function).parameters.values()
    known = [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]
    for options in (p.annotation for p in parameters if p.kind == p.VAR_KEYWORD):
        known += inspect.get_annotations(get_args(options)[0])
    accepted = frozenset(known)
    is_init = function.__name__ == "__init__"

    @functools.wraps(function)
    def checked(*args: P.args, **kwargs: P.kwargs) -> R:
        if not kwargs.keys() <= accepted:
            name = next(one for one in kwargs if one not in accepted)
            subject = type(args[0]).__name__ if is_init else function.__name__
            names = [one for one in known if one != "self"]
            raise TypeError(unknown_argument(subject, name, names))
        return function(*args, **kwargs)

    return checked


def unknown_argument(subject: str, name: str, known: Collection[str]) -> str:
    """Return the error about an argument that a class or function does not have."""
    advice = advice_on_name(name, known) or f"known are {', '.join(known)}."
    return f"{subject}() got an unexpected keyword argument {name!r}: {advice}"


def refuse_unknown_params(
    estimator: object, params: Mapping[str, object], known: Collection[str]
) -> None:
    """Refuse names that ``set_params`` does not know, with the names that they may mean.

    Parameters
    ----------
    estimator : estimator instance
        The estimator.
    params : mapping of str to object
        Values to set by name, also of nested parameters, such as ``loss__mcc``.
    known : collection of str
        Names of the parameters of the estimator itself.

    Raises
    ------
    ValueError
        If a name is unknown, or is nested in a value without parameters.
    """
    for name in params:
        own, _, inner = name.partition("__")
        # skorch sets the options of its parts under these names.
        if inner and "net" in known and own in _PARTS_OF_NET:
            value = params.get(own, getattr(estimator, own, None))
            if not hasattr(value, "set_params"):
                raise ValueError(
                    f"Invalid parameter {name!r} for estimator {type(estimator).__name__}: did you "
                    f"mean {inner if inner in known else f'net__{name}'}?"
                )
        if own not in known:
            advice = advice_on_name(own, known)
            raise ValueError(
                f"Invalid parameter {own!r} for estimator {type(estimator).__name__}: "
                f"{advice}{' ' if advice else ''}Valid parameters are: {sorted(known)!r}."
            )
