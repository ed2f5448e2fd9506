"""Settings of a run: a study file and options, checked without loading data or network."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Self

from search.errors import SpecError
from search.spec.study_spec import StudySpec, find_study_file
from search.spec.values import Size, sort_sizes
from search.storage.database import connected
from search.storage.location import OUT, StudyLocation
from search.study.create import check_stored
from search.study.time_limit import Limit
from search.verdict.load import read_results, stored_spec
from search.verdict.results import Results

Engine = Literal["local", "ray"]
"""Where workers run: as processes of this machine, or as tasks of a Ray cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """A study file and the options of a run."""

    file: Path
    spec: StudySpec
    location: StudyLocation
    sizes: list[Size]
    workers: int
    engine: Engine = "local"
    address: str | None = None
    limit: Limit | None = None

    @classmethod
    def of(
        cls,
        study: str,
        *,
        storage: str | None = None,
        sizes: list[Size] | None = None,
        trials: int | None = None,
        repeats: int | None = None,
        workers: int = 2,
        out: Path = OUT,
        seed: int | None = None,
        engine: Engine = "local",
        address: str | None = None,
        limit: Limit | None = None,
    ) -> Self:
        """Return the settings for that study file or name. Raises `SpecError` and `StorageError`."""
        file = find_study_file(study)
        spec = StudySpec.from_file(file)
        search = {key: value for key, value in (("trials", trials), ("seed", seed)) if value is not None}
        confirm = {} if repeats is None else {"repeats": repeats}
        if search or confirm:
            spec = spec.changed(search=search, confirm=confirm)
        for size in sizes or []:
            if size not in spec.task.sizes:
                allowed = ", ".join(map(str, spec.task.sizes))
                raise SpecError(f"--sizes {size} is not among the sizes of {file}; allowed: {allowed}.")
        location = StudyLocation.of(file.stem, out=out, storage=storage)
        if address is not None and engine == "local":
            raise SpecError("--address is that of a Ray cluster: add --engine ray, or leave it out.")
        return cls(
            file=file,
            spec=spec,
            location=location,
            sizes=sizes or spec.task.sizes,
            workers=workers,
            engine=engine,
            address=address,
            limit=limit,
        )

    def resuming(self, repeats: int | None = None) -> Self:
        """Return these settings with the stored study's repeats, where those are more.

        repeats: asked for on the command line. Raises `SpecError` where the study has more.
        """
        stored = self._stored_spec()
        if stored is None or stored.confirm.repeats <= self.spec.confirm.repeats:
            return self
        if repeats is not None:
            least = stored.confirm.repeats
            raise SpecError(
                f"--repeats {repeats}: {self.location.name!r} has {least} already; allowed: {least} or more."
            )
        return replace(self, spec=self.spec.changed(confirm={"repeats": stored.confirm.repeats}))

    def joining(self) -> Self:
        """Return these settings with the budgets of the stored study, where those are larger."""
        stored = self._stored_spec()
        if stored is None:
            return self
        own = self.spec
        spec = own.changed(
            task={"sizes": sort_sizes({*own.task.sizes, *stored.task.sizes})},
            search={"trials": max(own.search.trials, stored.search.trials)},
            confirm={"repeats": max(own.confirm.repeats, stored.confirm.repeats)},
        )
        return replace(self, spec=spec, sizes=spec.task.sizes if self.sizes == own.task.sizes else self.sizes)

    @property
    def room(self) -> int | None:
        """The trials that can run at once; None where a cluster knows that."""
        if self.engine == "local":
            return self.workers
        return None if self.address else max(1, (os.cpu_count() or 1) // self.spec.train.threads)

    def _stored_spec(self) -> StudySpec | None:
        with connected(self.location.database) as storage:
            return None if storage is None else stored_spec(storage, self.location)

    def stored(self) -> Results | None:
        """Return the stored study, with this run's budgets; None if there is none yet.

        Raises `StudyError` where it was stored with another spec.
        """
        with connected(self.location.database) as storage:
            if storage is None or stored_spec(storage, self.location) is None:
                return None
            check_stored(storage, self.location, self.spec)
            return replace(read_results(storage, self.location), spec=self.spec)
