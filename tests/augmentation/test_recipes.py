"""Values of augment=, and the table of recipes."""

import pytest
import torch
from torch import nn

from skimbal.augmentation import RECIPES, CenterCrop, RandomFlip, get_augmentation
from skimbal.exceptions import ParameterError
from tests.augmentation.data import OF_SINGLE_IMAGES


@pytest.mark.parametrize(
    ("spec", "n_axes", "expected"),
    [
        ("flip", 2, "RandomFlip(axes=None, p=0.5)"),
        (
            "paper",
            2,
            "RandomGamma(gamma=(0.5, 1.5), p=0.5) "
            "RandomSigmoidContrast(gain=(5.0, 10.0), cutoff=0.5, p=0.5) "
            "RandomFlip(axes=None, p=0.5)",
        ),
        (
            "paper",
            3,
            "RandomGamma(gamma=(0.5, 1.5), p=0.5) RandomGaussianBlur(sigma=(0.0, 1.5), p=0.5) "
            "RandomFlip(axes=None, p=0.5)",
        ),
        (
            ["flip", nn.Dropout(0.1)],
            3,
            "RandomFlip(axes=None, p=0.5) Dropout(p=0.1, inplace=False)",
        ),
        ((CenterCrop(3),), 2, "CenterCrop(size=3)"),
    ],
)
def test_what_a_specification_stands_for(spec, n_axes, expected):
    assert " ".join(map(repr, get_augmentation(spec, n_axes))) == expected


def test_callables_and_modules_are_copied():
    module, calls = nn.BatchNorm2d(1).eval(), []

    def callable_(images):
        calls.append(len(images))
        return -images

    augmentation = get_augmentation([callable_, module], 2)
    augmentation(torch.randn(4, 1, 5, 5))
    assert calls == [4]
    assert augmentation[1].training  # transforms that are still in evaluation would do nothing
    assert module.num_batches_tracked == 0
    assert not module.training


@pytest.mark.parametrize("spec", [None, [], ()])
def test_nothing_to_do(spec):
    assert get_augmentation(spec, 2) is None


@pytest.mark.parametrize(
    ("spec", "got"),
    [
        ("flips", "'flips'"),
        (["flip", 3], "3"),
        (RandomFlip, ".*RandomFlip"),
        (1, "1"),
        (True, "True"),
    ],
)
def test_wrong_specifications(spec, got):
    with pytest.raises(ParameterError, match=f"augment .*got {got}") as error:
        get_augmentation(spec, 2)
    assert error.value.parameter == "augment"
    assert all(repr(name) in error.value.expected for name in RECIPES)


def test_classes_in_place_of_modules_are_explained():
    for spec in (RandomFlip, ["flip", RandomFlip]):
        with pytest.raises(ParameterError, match="instance of RandomFlip"):
            get_augmentation(spec, 2)


def test_a_row_of_the_table_is_a_recipe(monkeypatch):
    monkeypatch.setitem(RECIPES, "last axis", lambda n_axes: [RandomFlip([n_axes - 1])])
    assert repr(get_augmentation(["last axis"], 3)[0]) == "RandomFlip(axes=(2,), p=0.5)"
    with pytest.raises(ParameterError, match="'last'") as error:
        get_augmentation("last", 3)
    assert "'last axis'" in error.value.expected


def test_a_recipe_is_any_value_of_augment(monkeypatch):
    def doubled(images):
        return 2 * images

    kept = RandomFlip()
    for recipe in (kept, [kept, doubled], ["flip", doubled], doubled, None, []):
        monkeypatch.setitem(RECIPES, "mine", lambda n_axes, recipe=recipe: recipe)
        found, expected = get_augmentation("mine", 2), get_augmentation(recipe, 2)
        assert repr(found) == repr(expected)
        assert found is None or found[0] is not kept
    monkeypatch.setitem(RECIPES, "mine", lambda n_axes: [kept, 3])
    with pytest.raises(ParameterError, match=r"augment .*got 3"):
        get_augmentation(["flip", "mine"], 2)


@pytest.mark.parametrize("name", OF_SINGLE_IMAGES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(6, 1, 9, 12), (6, 3, 8, 8), (6, 2, 7, 8, 6), (6, 1, 1, 9, 9)])
def test_every_recipe_works_on_every_kind_of_image(rng, name, dtype, shape):
    images = torch.from_numpy(rng.normal(100, 30, shape)).to(dtype)
    before, module = images.clone(), get_augmentation(name, len(shape) - 2)
    torch.manual_seed(0)
    result = module(images)
    assert (result.shape, result.dtype) == (images.shape, dtype)
    assert result.isfinite().all()
    assert not torch.equal(result, images)
    assert torch.equal(images, before)
    # No value beyond the range, up to rounding.
    margin = 0.05 if dtype.itemsize == 2 else 1e-3
    for image, changed in zip(images, result, strict=True):
        assert changed.min() >= image.min() - margin * image.abs().max()
        assert changed.max() <= image.max() + margin * image.abs().max()
    torch.manual_seed(0)
    assert torch.equal(module(images), result)


@pytest.mark.parametrize("name", OF_SINGLE_IMAGES)
@pytest.mark.parametrize("shape", [(2, 1, 1, 1), (2, 1, 1, 5), (2, 1, 5, 1, 1), (2, 1, 1, 1, 1)])
def test_every_recipe_works_on_axes_of_one_voxel(name, shape):
    images = torch.rand(shape)
    result = get_augmentation(name, len(shape) - 2)(images)
    assert result.shape == shape
    assert result.isfinite().all()


@pytest.mark.parametrize("name", ["light", "strong", "trivial"])
def test_other_recipes_do_not_mirror(name):
    # Left is dark and right is bright, however the image is shifted and turned.
    images = torch.linspace(0, 1, 16).expand(200, 1, 16, 16)
    result = get_augmentation(name, 2)(images)
    assert (result[..., 8:].mean((1, 2, 3)) > result[..., :8].mean((1, 2, 3))).all()
    volumes = torch.linspace(0, 1, 12).expand(100, 1, 12, 12, 12)
    result = get_augmentation(name, 3)(volumes)
    assert (result[..., 6:].mean((1, 2, 3, 4)) > result[..., :6].mean((1, 2, 3, 4))).all()
