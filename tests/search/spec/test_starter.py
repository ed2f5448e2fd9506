import tomllib

from search.spec.starter import LINE_LENGTH, starter
from search.spec.study_spec import TABLES, StudySpec
from search.spec.tables import Space

TEXT = starter("mine")


def test_starter_is_valid_and_names_every_key():
    StudySpec.from_dict(tomllib.loads(TEXT), where="starter")
    for name, table in TABLES.items():
        section = TEXT.partition(f"\n[{name}]")[2].partition("\n\n")[0]
        assert [key for key in table.model_fields if f"\n# {key} = " in section or f"\n{key} = " in section] == [
            *table.model_fields
        ]
        assert all(field.description for field in table.model_fields.values()), "a key without an explanation"


def test_starter_shows_the_true_defaults():
    spec = StudySpec.from_dict(tomllib.loads(TEXT), where="starter")
    shown = "\n".join(line.removeprefix("# ") for line in TEXT.splitlines() if " = " in line or line[:1] == "[")
    defaults = StudySpec.from_dict(tomllib.loads(shown), where="starter, all of it")
    # The defaults of the space, and of how a network sees images, depend on network and data; the metric on the task.
    model = defaults.model.model_copy(update=dict.fromkeys(("groups", "image_size", "mean", "std")))
    task = defaults.task.model_copy(update={"metric": None, "test": None, "pixel_range": None, "group_by": None})
    source = defaults.source.model_copy(update={"pixel_range": None})
    train = defaults.train.model_copy(update={"class_weight": None})
    known = {"space": Space(), "model": model, "task": task, "source": source, "train": train}
    assert defaults.model_copy(update=known) == spec


def test_starter_fits_the_screen_and_aligns_its_comments():
    for section in TEXT.split("\n\n")[1:]:
        lines = section.splitlines()
        assert max(map(len, lines)) <= LINE_LENGTH
        assert len({line.index(" # ") for line in lines}) == 1
