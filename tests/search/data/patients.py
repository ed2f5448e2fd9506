"""Files in which every example tells its patient, of each kind of data that can be grouped."""

import csv
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset

from search.data.examples import Examples, TaskData

KINDS = {
    "folder": ("scans", r"(p\d+)_", {}),
    "npz": ("scans.npz", "patient", {}),
    "texts": ("notes.csv", "patient", {"text": "text"}),
    "series": ("series.csv", "patient", {"time": "step", "standardize": False}),
    "items": ("tests.search.data.patients:items", "tests.search.data.patients:patient_of", {}),
    "own": ("tests.search.data.patients:own", None, {}),
}
"""Of each kind the data's name, `group_by`, and the other options."""

OWNED = {"pool": ([0, 1] * 8, [0, 1] * 8)}
"""The patients and labels of the user's own data, by part, as `write` leaves them."""


def write(kind: str, folder: Path, patients: list[int], labels: list[int]) -> None:
    """Write examples with these patients and labels."""
    if kind == "folder":
        for number, (patient, label) in enumerate(zip(patients, labels, strict=True)):
            place = folder / "scans" / f"class {label}"
            place.mkdir(parents=True, exist_ok=True)
            pixels = np.full((4, 4), number % 251, dtype=np.uint8)
            Image.fromarray(pixels).save(place / f"p{patient}_{number}.png")
    if kind == "npz":
        x = np.array(patients, dtype=np.float32)[:, None].repeat(2, axis=1)
        np.savez(folder / "scans.npz", x=x, y=np.array(labels), patient=[f" {patient}" for patient in patients])
    if kind == "texts":
        rows = [(f"{patient} {number}", patient, labels[number]) for number, patient in enumerate(patients)]
        _table(folder / "notes.csv", ["text", "patient", "label"], rows)
    if kind == "series":
        steps = [
            (f"s{number}", step, patient, labels[number], patient)
            for number, patient in enumerate(patients)
            for step in range(2)
        ]
        _table(folder / "series.csv", ["series", "step", "value", "label", "patient"], steps)
    OWNED.clear()
    OWNED["pool"] = (patients, labels)


def patients_in(kind: str, data: TaskData) -> list[int]:
    """Return the patient of every example, through all parts, as its input tells."""
    found: list[int] = []
    for part in data.parts.values():
        inputs = part.inputs
        if kind == "folder":
            found += [int(inputs.source.paths[row].name.split("_")[0][1:]) for row in inputs.rows.tolist()]
        elif kind == "texts":
            found += [int(text.split()[0]) for (text,) in inputs.rows]
        else:
            found += inputs.flatten(1)[:, 0].int().tolist()
    return found


def items():
    """Return data whose items are pairs, to learn from, and no test set."""
    return Items(*OWNED["pool"]), None


def patient_of(item):
    """Return an item's patient, as a tensor of one number."""
    return item[0][0]


def own():
    """Return data that bring their groups."""
    patients, labels = map(torch.tensor, OWNED["pool"])
    pool = Examples(patients[:, None].float(), labels, patients)
    return TaskData(pool=pool, test=pool.subset(torch.arange(0)), classes=("a", "b"), cross_validated=True)


class Items(Dataset):
    """Pairs of a vector and a class."""

    def __init__(self, patients: list[int], labels: list[int]) -> None:
        self.patients, self.labels = patients, labels

    def __len__(self) -> int:
        return len(self.patients)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.full((2,), float(self.patients[index])), self.labels[index]


def _table(file: Path, header: list[str], rows: list[tuple]) -> None:
    with file.open("w", newline="") as out:
        csv.writer(out).writerows([header, *rows])
