import subprocess
import sys

import pytest

from strategies import FreezingStrategy, format_strategy, load_strategy, save_strategy

STRATEGY = FreezingStrategy(
    freeze_depth=2,
    unfreeze_epoch=3,
    head_lr=1e-05,
    epochs_per_group=1,
    lr_growth=1.5,
    warmup_steps=5,
    scheduler="cosine",
    parameters="bias",
    batch_norm="frozen",
    l2_sp=0.01,
    epochs=20,
    steps_per_epoch=10,
)
PROVENANCE = {"study": 'a "quoted"\nname \x7f \u2603', "size": 50, "interval_90": [0.1, 0.2], "winner": True}


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_load_strategy_returns_what_was_saved(tmp_path, suffix):
    file = tmp_path / f"best{suffix}"
    save_strategy(STRATEGY, file, provenance=PROVENANCE)
    assert load_strategy(file) == STRATEGY
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_python_text_makes_the_same_value():
    scope = {}
    exec(format_strategy(STRATEGY, "python", provenance=PROVENANCE), scope)
    assert scope["strategy"] == STRATEGY


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "[strategy]\nfreeze_depth = -1", "a.toml: strategy: `freeze_depth` must be at least 0, got -1"),
        ("a.toml", "[strategy]\nfreeze = 1", "`freeze` is not a strategy's field; allowed:"),
        ("a.toml", "[strategy", "a.toml: not a valid TOML file"),
        ("a.json", "[]", "there is no table named `strategy`"),
        ("a.json", "{", "not a valid JSON file"),
        ("a.yaml", "", "ends in .toml or .json"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        load_strategy(tmp_path / name)


def test_loading_needs_no_torch(tmp_path):
    save_strategy(STRATEGY, tmp_path / "best.toml")
    code = (
        "import sys; from strategies import load_strategy; load_strategy(sys.argv[1]); "
        "assert not {'torch', 'lightning', 'optuna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "best.toml"], check=True)
