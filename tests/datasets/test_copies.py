import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from skimbal.datasets.copies import find_copies, image_digest, row_digests, spanning
from skimbal.images import ImageArray, ImageFiles

WHOLE = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=3, min_side=2, max_side=5))


@given(WHOLE, st.sampled_from(["u2", "i2", ">u4", "i8", "f4", "f8", ">f8"]))
def test_equal_numbers_have_one_digest_in_any_dtype(image, dtype):
    assert image_digest(image.astype(dtype)) == image_digest(image)
    assert image_digest(image[None]) == image_digest(image)
    assert image_digest(np.asfortranarray(image)) == image_digest(image)


@given(WHOLE, st.data())
def test_any_other_number_changes_the_digest(image, data):
    place = data.draw(st.integers(0, image.size - 1))
    other = image.copy()
    other.reshape(-1)[place] ^= data.draw(st.integers(1, 255))
    before, after = image_digest(image), image_digest(other)
    assert before != after or (before is None and (other == other.flat[0]).all())


@pytest.mark.parametrize(
    "image",
    [np.full((4, 4), 7), np.zeros((0, 4)), np.array([["a", "b"]]), np.zeros((4, 4), bool)],
)
def test_images_of_one_value_are_not_copies(image):
    assert image_digest(image) is None


def test_fractions_signs_and_shapes():
    x = np.array([[0.5, -0.0], [1.0, 2.0]])
    assert image_digest(x) == image_digest(x.astype("f4")) == image_digest(np.abs(x))
    assert image_digest(x) != image_digest(x + 1e-9)
    assert image_digest(np.array([[-1, 2]])) != image_digest(np.array([[255, 2]]))
    a = np.arange(12)
    assert image_digest(a.reshape(3, 4)) != image_digest(a.reshape(4, 3))
    assert image_digest(np.array([[-1, 2.0**40]])) == image_digest(np.array([[-1, 2**40]]))
    assert image_digest(np.array([[1.0, np.nan]])) is not None


@pytest.mark.parametrize("kind", ["array", "on demand", "files", "frame"])
def test_rows_of_all_kinds_of_data(kind, rng, tmp_path):
    X = rng.integers(0, 255, (9, 4, 5), dtype=np.uint8)
    X[7] = X[2]
    expected = row_digests(X)
    given = {"array": X.astype(float), "on demand": ImageArray(X)}.get(kind)
    if kind == "files":
        paths = [tmp_path / f"{i}.npy" for i in range(9)]
        for path, image in zip(paths, X, strict=True):
            np.save(path, image)
        given = ImageFiles(paths)
    if kind == "frame":
        pd = pytest.importorskip("pandas")
        given, expected = pd.DataFrame(X.reshape(9, 20)), row_digests(X.reshape(9, 20))
    assert row_digests(given) == expected
    assert find_copies(expected) == [[2, 7]]


def test_copies_that_span_values():
    copies = find_copies([b"a", None, b"b", b"a", b"b", None])
    assert copies == [[0, 3], [2, 4]]
    assert spanning(copies, "xxxxyx".__getitem__) == [[2, 4]]
