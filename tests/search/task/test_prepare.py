import numpy as np

from search.data.load import load_data
from search.models.registry import find_network
from search.spec.study_spec import StudySpec
from search.task.prepare import prepared


def test_a_source_without_a_test_set_may_be_augmented(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pixels = np.random.default_rng(0).integers(0, 255, (8, 12, 12), dtype=np.uint8)
    np.savez("source.npz", x=pixels, y=np.arange(8) % 2)
    content = {
        "task": {"data": "digits", "sizes": [20]},
        "model": {"backbone": "lenet", "weights": "none"},
        "train": {"augment": ["flip"]},
    }
    spec = StudySpec.from_dict(content, where="test")
    source = load_data("source.npz", {"test": 0.0}, where="[source] data")
    data = prepared(source, find_network(spec.model), spec, cache=None)
    assert (len(data.pool), len(data.test), data.notes) == (8, 0, ())
    inputs, _ = data.pool.__getitems__([(0, 0), (1, 5)])
    assert inputs.shape == (2, 1, 12, 12)
