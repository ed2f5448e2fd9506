from pathlib import Path

import pytest

from search.errors import SpecError
from search.spec.study_spec import EMBEDDED, StudySpec, find_study_file

DIGITS = (EMBEDDED / "digits.toml").read_text()


def read(tmp_path: Path, text: str, name: str = "study.toml") -> StudySpec:
    (tmp_path / name).write_text(text)
    return StudySpec.from_file(tmp_path / name)


@pytest.mark.parametrize("file", sorted(EMBEDDED.glob("*.toml")), ids=lambda file: file.stem)
def test_every_study_file_is_valid(file):
    StudySpec.from_file(file)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("trials = 20", "trials = -3", "[search] trials = -3: must be greater than or equal to 1"),
        ("trials = 20", "trials = true", "[search] trials = True: must be a valid integer"),
        ("seed = 0", "sead = 0", "[search] sead is not a known key; allowed: trials, sampler, pruner, seed"),
        ("[search]", "[serch]", "[serch] is not a known table; allowed: task, model"),
        ('data = "digits" ', "", "[task] data is missing"),
        ("[50, 100, 200, 400, 800]", "[50, 50]", "[task] sizes = [50, 50]: each value may appear once"),
        ("[50, 100, 200, 400, 800]", "[]", "[task] sizes = []: must not be empty"),
        ("batch_size = 32", 'augment = ["flip", "flip"]', "augment = ['flip', 'flip']: each value may appear"),
        ("sizes", 'options = "x"\nsizes', "[task] options = 'x': must be a table of keyword arguments, { name = value"),
        ('weights = "source"', "weights = 3", "[model] weights = 3: must be a name, a file, or { checkpoint = "),
        ('weights = "source"', 'weights = { module = "a" }', "must be a name, a file, or { checkpoint = "),
        (
            "sizes",
            'metric = "mse"\nsizes',
            "[task] metric = 'mse': must be 'accuracy', 'balanced_accuracy', 'f1', 'auroc'",
        ),
        ("sizes", 'metric = "val_loss"\nsizes', '[task] metric = \'val_loss\': "val_loss" is now called "loss".'),
        ("sizes", 'metric = "val_accuracy"\nsizes', '"val_accuracy" is now called "accuracy".'),
        ("epochs = 20", 'epochs = "x"', "[train] epochs = 'x': must be a valid integer"),
        ("[search]", "[space]\nhead_lr = -1\n[search]", "[space]: head_lr = -1: `head_lr` must be finite and greater"),
        ("[search]", '[space]\nhead_lr = "x"\n[search]', "[space] head_lr = 'x': must be a number, a list"),
        ("[search]", "[space]\nhead_lr = {low = 1}\n[search]", "[space] head_lr = {'low': 1}: must be a number"),
        ("[search]", "[space]\nhead_lr = {low = 3, high = 1}\n[search]", "low = 3 must be at most high = 1"),
        ("[search]", "[space]\nfreeze_depth = 1.5\n[search]", "`freeze_depth` must be a whole number, got 1.5"),
        ("[search]", "[space]\nfreeze_depth = [1, 1]\n[search]", "names at least one value, and each once"),
        ('weights = "source"', 'weights = "none"', '[source] and weights = "source" go together'),
        ("[task]", "[task", "not a TOML file"),
        ("repeats = 5", "chains = 5", "[confirm] chains is now called repeats."),
        ("epochs = 20", "deadline = 9", "[train] deadline is now called timeout."),
        ("sizes", "options = { test = 0.3 }\nsizes", "[task]: options = { test = ... } is now [task] test."),
        (
            "sizes",
            "test = 1.0\nsizes",
            "[task] test = 1.0: must be a share above 0 and below 1, the path of the test data",
        ),
        ("[50, 100, 200, 400, 800]", '["all", "most"]', 'must be whole numbers of at least 1, or "all"'),
        ("[50, 100, 200, 400, 800]", '["all", "all"]', "[task] sizes = ['all', 'all']: each value may appear once"),
        ("[search]", '[space]\nbatch_norm = ["train", "still"]\n[search]', '"still" is now called "frozen".'),
        ("[search]", '[space]\nbatch_norm = "no"\n[search]', '`batch_norm` must be one of "train", "frozen"'),
    ],
)
def test_an_error_is_one_line_that_names_the_key(tmp_path, old, new, message):
    assert old in DIGITS
    with pytest.raises(SpecError) as caught:
        read(tmp_path, DIGITS.replace(old, new, 1))
    assert str(caught.value).startswith(f"{tmp_path / 'study.toml'}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_studies_are_found_by_file_and_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_study_file("digits") == EMBEDDED / "digits.toml"
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "digits.toml").write_text(DIGITS)
    assert find_study_file("digits") == Path("studies/digits.toml")
    assert find_study_file("studies/digits.toml") == Path("studies/digits.toml")
    with pytest.raises(SpecError, match=r"known studies: bert-sentiment, .*digits"):
        find_study_file("nosuch")
    with pytest.raises(SpecError, match="there is no such study file"):
        find_study_file("nosuch.toml")


def test_only_budgets_may_grow(tmp_path):
    stored = read(tmp_path, DIGITS)
    grown = stored.changed(task={"sizes": [25, 50, 100, 200, 400, 800]}, search={"trials": 30}, confirm={"repeats": 9})
    assert grown.differences(stored) == []
    assert len(stored.differences(grown)) == 3
    other = stored.changed(search={"seed": 1}, train={"batch_size": 16})
    assert other.differences(stored) == ["search.seed is 1, stored is 0", "train.batch_size is 16, stored is 32"]


def test_the_spec_survives_the_database(tmp_path):
    spec = read(tmp_path, DIGITS + "\n[space]\nhead_lr = {low = 1e-3, high = 1, log = true}\nfreeze_depth = [0, 2]")
    assert StudySpec.from_dict(spec.model_dump(mode="json", exclude_none=True), where="the database") == spec


def test_options_of_own_code_may_be_called_test():
    content = {
        "task": {"data": "mine:data", "sizes": [50, "all"], "options": {"test": 1}},
        "model": {"backbone": "lenet"},
    }
    spec = StudySpec.from_dict({**content, "model": {"backbone": "lenet", "weights": "none"}}, where="test")
    assert spec.task.options == {"test": 1}
    assert spec.task.sizes == [50, "all"]


def test_from_scratch_needs_pretrained_weights():
    def has(weights, **space):
        content = {"task": {"data": "digits", "sizes": [50]}, "model": {"backbone": "lenet", "weights": weights}}
        return StudySpec.from_dict({**content, "space": space}, where="test").has_from_scratch

    assert has("w.pt")
    assert not has("none")
    assert not has("w.pt", pretrained=True)
    assert has("none", pretrained=[True, False])
