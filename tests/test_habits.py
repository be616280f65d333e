"""Tests of the names of other libraries in errors."""

import inspect
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from skimbal import CNN2DClassifier, LossMix, NDSampler, Pretrained, SliceNet
from skimbal.classifiers.machine import check_device
from skimbal.commands.parser import Parser, option
from skimbal.datasets import inspect_folder, load_image_folder
from skimbal.decoupling import DecoupledClassifier
from skimbal.evaluation import evaluate
from skimbal.exceptions import ParameterError
from skimbal.habits import advice_on_name, advice_on_value
from skimbal.images import ImageFiles
from skimbal.losses import get_loss
from skimbal.study import compare_losses
from skimbal.thresholds import TunedOffsetsClassifierCV

X, y = np.zeros((12, 4, 4), np.uint8), np.arange(12) % 2


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            "epochs n_epochs nEpochs num_epochs max_iter max_epoch epcohs",
            "did you mean max_epochs?",
        ),
        ("learning_rate learningRate eta0 learnig_rate", "did you mean lr?"),
        ("optim opt optimiser optimzer", "did you mean optimizer?"),
        ("criterion loss_fn loss_func objective", "did you mean loss?"),
        ("batchsize bs BATCH_SIZE", "did you mean batch_size?"),
        ("model network architecture net_class", "did you mean module?"),
        ("class_weights", "did you mean class_weight?"),
        ("seed random_seed randomstate", "did you mean random_state?"),
        ("scheduler lr_scheduler", "did you mean lr_schedule?"),
        ("transform transforms data_augmentation", "did you mean augment?"),
        ("patch_size roi_size", "did you mean crop_size?"),
        ("validation_split val_split", "did you mean train_split?"),
        ("verbose_epochs", "did you mean verbose?"),
        ("precision use_amp", "did you mean dtype?"),
        ("early_stopping patience", "EarlyStopping"),
        ("num_workers workers", "iterator_train__num_workers"),
        ("weight_decay", "optimizer__weight_decay"),
        ("gpu use_cuda", "device='cuda'"),
        ("weights pretrained", "Pretrained"),
        ("n_classes num_classes", "from y"),
        ("groups", "fit(X, y, groups"),
        ("label_smoothing", "LossMix"),
        ("nonsense", "known are loss,"),
    ],
)
def test_a_name_of_another_library_is_understood(names, said):
    for name in names.split():
        with pytest.raises(TypeError, match=re.escape(said)) as error:
            CNN2DClassifier(**{name: 3})
        assert f"unexpected keyword argument {name!r}" in str(error.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: LossMix(dice=1), "Did you mean 'f1'?"),
        (lambda: LossMix(gamma=1), "Did you mean focal_gamma?"),
        (lambda: LossMix(smoothing=1), "Did you mean label_smoothing?"),
        (lambda: Pretrained("timm/resnet18", weights=1), "did you mean source?"),
        (lambda: Pretrained("timm/resnet18", lr=1), "CNN2DClassifier(lr=...)"),
        (lambda: SliceNet(encoder="small"), "did you mean backbone?"),
        (lambda: ImageFiles([], image_size=3), "did you mean size?"),
        (lambda: load_image_folder("x", image_size=3), "did you mean size?"),
        (lambda: load_image_folder("x", epochs=3), "load_image_folder() got"),
        (lambda: load_image_folder("x", epochs=3), "CNN2DClassifier(max_epochs=...)"),
        (lambda: inspect_folder("x", loader=3), "did you mean reader?"),
        (lambda: NDSampler(resampler=1), "did you mean sampler?"),
        (lambda: DecoupledClassifier(clf=1), "did you mean estimator?"),
        (lambda: DecoupledClassifier(None, heads="crt"), "did you mean head?"),
        (lambda: TunedOffsetsClassifierCV(None, metric="f1"), "did you mean scoring?"),
        (lambda: compare_losses(X, y, epochs=3), "estimator=CNN2DClassifier(max_epochs=...)"),
        (lambda: compare_losses(X, y, folds=3), "did you mean cv?"),
        (lambda: evaluate(None, X, y, patients=y), "did you mean groups?"),
        (lambda: CNN2DClassifier().fit(X, y, epochs=3), "CNN2DClassifier(max_epochs=...)"),
        (lambda: CNN2DClassifier().fit(X, y, validation_data=(X, y)), "predefined_split"),
        (lambda: CNN2DClassifier().partial_fit(X, y, weights=y), "did you mean sample_weight?"),
    ],
)
def test_other_classes_and_functions_understand_names_too(call, said):
    with pytest.raises(TypeError, match=re.escape(said)):
        call()


@pytest.mark.parametrize(
    ("estimator", "name", "said"),
    [
        (CNN2DClassifier(), "epochs", "did you mean max_epochs?"),
        (CNN2DClassifier(LossMix(ce=1)), "loss__dice", "Did you mean 'f1'?"),
        (CNN2DClassifier(module=SliceNet()), "module__encoder", "did you mean backbone?"),
        (make_pipeline(CNN2DClassifier()), "cnn2dclassifier__epochs", "did you mean max_epochs?"),
        (CNN2DClassifier(), "optimizer__lr", "did you mean lr?"),
        (CNN2DClassifier(), "module__width", "did you mean net__module__width?"),
        (CNN2DClassifier(), "iterator_train__num_workers", "net__iterator_train__num_workers?"),
    ],
)
def test_set_params_understands_names(estimator, name, said):
    with pytest.raises(ValueError, match=re.escape(said)):
        estimator.set_params(**{name: 3})


def test_a_search_understands_names():
    search = GridSearchCV(
        make_pipeline(CNN2DClassifier()),
        {"cnn2dclassifier__epochs": [1]},
        cv=2,
        error_score="raise",
    )
    with pytest.raises(ValueError, match=r"did you mean max_epochs\?"):
        search.fit(X, y)


@pytest.mark.parametrize(
    ("parameter", "value", "said"),
    [
        ("loss", "crossentropy", "'ce'"),
        ("loss", "CrossEntropyLoss", "'ce'"),
        ("loss", "bce", "ce"),
        ("loss", "ce+dice", "'f1'"),
        ("loss", "cross-entropy", "'ce'"),
        ("loss", "ldam-drw", "'ldam_drw'"),
        ("sampler", "oversample", "'balanced'"),
        ("sampler", "smote", "NDSampler(SMOTE())"),
        ("sampler", "balancd", "'balanced'"),
        ("module", "resnet50", "Pretrained('timm/resnet50')"),
        ("module", "cnn", "'small'"),
        ("optimizer", "momentum", "'sgd'"),
        ("lr_schedule", "OneCycleLR", "'one_cycle'"),
        ("lr_schedule", "ReduceLROnPlateau", "callbacks=[skorch.callbacks.LRScheduler"),
        ("augment", "hflip", "'flip'"),
        ("augment", "RandAugment", "'trivial'"),
        ("dtype", "fp16", "'float16'"),
        ("dtype", "bf16-mixed", "'bfloat16'"),
        ("n_tta", "flip", "'flips'"),
        ("class_weight", "balance", "'balanced'"),
        ("standardize", "zscore", "True"),
    ],
)
def test_a_value_of_another_library_is_understood(parameter, value, said):
    with pytest.raises(ParameterError, match=re.escape(f"Did you mean {said}")):
        CNN2DClassifier(max_epochs=1, module="small").set_params(**{parameter: value}).fit(X, y)


def test_a_value_that_resembles_no_other_is_not_explained():
    with pytest.raises(ParameterError) as error:
        get_loss("qqq", [1, 1])
    assert "mean" not in str(error.value)
    assert advice_on_value("dtype", object()) == advice_on_name("qqq", ["lr"]) == ""


def test_the_signature_stays_and_subclasses_work():
    assert list(inspect.signature(CNN2DClassifier).parameters)[:2] == ["loss", "logit_adjustment"]

    class Plain(CNN2DClassifier):
        pass

    class Own(CNN2DClassifier):
        def __init__(self, width=8, *, lr=0.1):
            super().__init__(lr=lr)
            self.width = width

    with pytest.raises(TypeError, match=r"^Plain\(\) .* did you mean max_epochs\?"):
        Plain(epochs=3)
    assert clone(Own(width=3)).width == 3
    with pytest.raises(ValueError, match=r"estimator Own: did you mean width\?"):
        Own().set_params(widht=3)


@pytest.mark.parametrize(
    "device", ["gpu", "GPU", "CUDA", "gpu:1", "cuda0", "nvidia", True, ["cuda"]]
)
def test_a_gpu_by_another_name_is_refused_with_what_to_write(device, monkeypatch):
    with pytest.raises(ParameterError, match=r"CUDA device\(s\) on this machine.*Write device='c"):
        check_device(device)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    index = ":1" if device == "gpu:1" else ":0" if device == "cuda0" else ""
    with pytest.raises(ParameterError, match=f"'cuda:0' to 'cuda:1'. Write device='cuda{index}'"):
        check_device(device)


@pytest.mark.parametrize("device", ["tpu", "mps:9", None, "cdua"])
def test_another_device_is_refused_with_what_to_write(device):
    with pytest.raises(ParameterError, match="Write device='cpu', or device='auto' for CUDA"):
        check_device(device)


def test_a_device_without_kernels_is_refused_in_the_first_sentence_of_torch(monkeypatch):
    def empty(*shape, device):
        raise NotImplementedError("Could not run 'aten::empty'. This could be.\nCPU: x")

    monkeypatch.setattr("torch.empty", empty)
    with pytest.raises(ParameterError, match=r"Torch says: Could not run 'aten::empty'\.$"):
        check_device("mps")


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("--max-epochs", "--epochs"),
        ("--n_epochs", "--epochs"),
        ("-epochs", "--epochs"),
        ("--learning-rate", "--lr"),
        ("--network", "--module"),
        ("--gpu", "--device cuda"),
        ("--folds", "--cv"),
    ],
)
def test_an_option_of_another_library_is_understood(given, meant, capsys):
    parser = Parser("skimbal", "")
    names = {"max_epochs": "--epochs", "lr": "--lr", "module": "--module", "cv": "--cv"}
    parser.add_options({n: option(o, "") for n, o in (names | {"device": "--device"}).items()})
    with pytest.raises(SystemExit):
        parser.parse_args([given, "3"])
    assert f"Did you mean {meant}?" in capsys.readouterr().err
