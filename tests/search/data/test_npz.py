import numpy as np
import pytest
import torch

from search.data.images import ImageFormat, Images
from search.data.load import load_data
from search.errors import TaskError
from tests.search.data.pictures import prepare_one


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def load(name, **options):
    return load_data(name, options, where="[task] data")


def test_real_digits(assets):
    data = load(str(assets / "mnist5k.npz"))
    assert data.classes == tuple("0123456789")
    assert data.pool.targets.bincount().tolist() == [400] * 10
    assert data.test.targets.bincount().tolist() == [100] * 10
    ready, _ = prepare_one(data.pool, ImageFormat(size=28, resize=28, mean=(0.0,), std=(1.0,)))
    whole = np.load(assets / "mnist5k.npz")
    found = np.sort(ready.inputs.pixels_of(torch.arange(10)).numpy().reshape(10, -1), axis=0)
    assert np.array_equal(found, np.sort(whole["images"][data.pool.inputs.rows[:10]].reshape(10, -1), axis=0))


@pytest.mark.parametrize("shape", [(6, 5, 5), (6, 5, 5, 1), (6, 5, 5, 3), (6, 5, 5, 4), (6, 3, 5, 5)])
def test_bytes_are_images(tmp_path, shape):
    data = load(save(tmp_path / "a.npz", x=np.zeros(shape, np.uint8), y=np.arange(6) % 2), test=0)
    assert isinstance(data.pool.inputs, Images)
    assert data.pool.inputs[0].size == (5, 5)


@pytest.mark.parametrize(
    "names",
    [
        ("x", "y", "x_test", "y_test"),
        ("images", "labels", "images_test", "labels_test"),
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
    ],
)
def test_arrays_by_the_names_they_come_with(tmp_path, names):
    x, y = np.arange(60, dtype=np.uint8).reshape(15, 2, 2), np.arange(15)[:, None] % 2
    data = load(save(tmp_path / "a.npz", **dict(zip(names, (x[:10], y[:10], x[10:], y[10:]), strict=True))))
    assert (len(data.pool), len(data.test), data.classes) == (10, 5, ("0", "1"))
    with pytest.raises(TaskError, match=f"has {names[2]} but not both of {names[2]} and {names[3]}"):
        load(save(tmp_path / "b.npz", **{names[0]: x, names[1]: y, names[2]: x}))


def test_floats_are_inputs_and_numbers_to_predict(tmp_path):
    x = np.random.default_rng(0).normal(3, 2, (40, 7, 2))
    data = load(save(tmp_path / "a.npz", x=x, y=x[:, 0, 0]), standardize=True)
    assert data.kind == "regression"
    assert data.pool.inputs.dtype == data.pool.targets.dtype == torch.float32
    torch.testing.assert_close(data.pool.inputs.mean((0, 1)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.pool.inputs.std((0, 1), correction=0), torch.ones(2))


def test_a_test_part_comes_from_the_file_or_from_another(tmp_path):
    x, y = np.arange(8.0)[:, None], np.array(["b", "a"] * 4)
    own = save(tmp_path / "own.npz", x=x, y=y, x_test=x[:2], y_test=y[:2])
    assert (len(load(own).pool), len(load(own).test), load(own).classes) == (8, 2, ("a", "b"))
    plain = save(tmp_path / "plain.npz", x=x, y=y)
    other = save(tmp_path / "other.npz", images=x[:3], labels=y[:3])
    assert (len(load(plain, test=other).pool), len(load(plain, test=other).test)) == (8, 3)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"x": np.zeros((2, 1)), "z": np.zeros(2)},
            "needs arrays x and y, or images and labels, or x_train .*; it has: x, z",
        ),
        ({"x": np.zeros((2, 1)), "y": np.arange(3)}, r"inputs of shape \(2, 1\) and targets of shape \(3,\)"),
        (
            {"x": np.array([[1.0], [np.nan]]), "y": np.arange(2)},
            r"1 inputs that are NaN or infinite, the first at \[1, 0",
        ),
        ({"x": np.zeros((4, 1)), "y": np.array([0, 1, np.nan, 0])}, "targets must be finite"),
        ({"x": np.zeros((2, 9, 9, 9), np.uint8), "y": np.arange(2)}, "images of shape"),
        ({"x": np.array(["a", "b"]), "y": np.arange(2)}, "inputs <U1 of shape"),
        ({"x": np.array([[{}], [{}]]), "y": np.arange(2)}, "can't be read as an .npz file of plain arrays"),
        ({"x": np.zeros((4, 1)), "y": np.arange(4) % 2, "x_test": np.zeros((1, 1)), "y_test": [7]}, "label '7', which"),
    ],
)
def test_impossible_arrays_are_refused_in_one_line(tmp_path, arrays, message):
    with pytest.raises(TaskError, match=rf"^\[task\] data = .*a.npz'.*{message}") as caught:
        load(save(tmp_path / "a.npz", **arrays))
    assert "\n" not in str(caught.value)


def test_a_damaged_file_is_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 no more")
    with pytest.raises(TaskError, match="can't be read as an"):
        load(str(tmp_path / "a.npz"))
