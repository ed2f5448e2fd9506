"""The answer in sentences, for the terminal, the page and the dashboard's notes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from search.verdict.judge import Candidate, Verdict
from search.verdict.metric import Metric
from search.verdict.more_labels import Step, steps
from search.verdict.race import LEAST_REPEATS
from search.verdict.results import Results
from strategies import Family, FreezingStrategy

LAZY = (Family.LINEAR_PROBING, Family.FULL_FINE_TUNING, Family.FROM_SCRATCH)
"""Families that people take without a search."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer at neighbouring sizes at which it is the same.

    advice: the strategy in plain words, or why there is none.
    loss: its expected loss and that of the lazy ways; empty where none is known.
    """

    sizes: tuple[int, ...]
    advice: str
    loss: str

    @property
    def labels(self) -> str:
        """Its sizes: "50-400 labels"."""
        return f"{_span(map(str, self.sizes))} labels"

    @property
    def text(self) -> str:
        return f"{self.labels}: {self.advice}. {self.loss}".rstrip()


def answers(results: Results, verdicts: Mapping[int, Verdict]) -> list[Answer]:
    """Return one answer for each range of sizes in which it is the same.

    It is the same where the recommended strategies are of one family and freeze depth, and train the same parameters of
    a group. Rates and epochs may differ. Each size without such an answer has its own.
    """

    def same(size: int) -> object:
        best = verdicts[size].recommended
        return (best.family, best.strategy.freeze_depth, best.strategy.parameters) if advises(verdicts[size]) else size

    ranges = (tuple(sizes) for _, sizes in groupby(sorted(verdicts), key=same))
    return [_answer(results, sizes, [verdicts[size] for size in sizes]) for sizes in ranges]


def more_labels(results: Results, verdicts: Mapping[int, Verdict]) -> str:
    """Return a sentence on the change that more labels brought; empty where none is known."""
    found, metric = steps(results, verdicts), results.metric
    if not found:
        return ""
    first, *others = found
    way = "Doubling" if all(step.after == 2 * step.before for step in found) else "Going"
    verb = "brought" if metric.percent else f"changed the {metric.label} by"
    parts = [f"{way} from {first.before} to {first.after} labels {verb} {_change(first, metric, unit=True)}"]
    parts += [f"from {step.before} to {step.after} {_change(step, metric)}" for step in others]
    return f"{', '.join(parts)}."


def _answer(results: Results, sizes: tuple[int, ...], verdicts: Sequence[Verdict]) -> Answer:
    if not advises(verdicts[0]):
        return Answer(sizes=sizes, advice=verdicts[0].sentence, loss="")
    strategies = [verdict.recommended.strategy for verdict in verdicts]
    advice = in_words(strategies, num_groups=results.num_groups, epochs=results.spec.train.epochs)
    return Answer(sizes=sizes, advice=advice, loss=_loss(verdicts) + _failures([v.recommended for v in verdicts]))


def advises(verdict: Verdict) -> bool:
    """Check that enough is known to advise a strategy, and that it beats guessing."""
    return verdict.repeats >= LEAST_REPEATS and not verdict.is_trivial


def _loss(verdicts: Sequence[Verdict]) -> str:
    metric = verdicts[0].metric
    compared = [verdict.recommended for verdict in verdicts if len(verdict.every_candidate) > 1]
    if not compared:
        return "Nothing else was confirmed."
    unit = "points" if metric.percent else f"({metric.label})"
    own = f"Expected loss against the best {_differences(compared, metric)} {unit}."
    lazy = {family: [c for v in verdicts if (c := _lazy(v, family)) is not None] for family in LAZY}
    parts = [
        f"{family} {'' if place else 'loses '}{_differences(found, metric)}"
        for place, (family, found) in enumerate((family, found) for family, found in lazy.items() if found)
    ]
    return f"{own} {_capital(', '.join(parts))}." if parts else own


def _failures(recommended: Sequence[Candidate]) -> str:
    failed = sum(c.failed_to_train for c in recommended)
    return f" {failed} of {sum(c.repeats for c in recommended)} runs failed to train." if failed else ""


def _lazy(verdict: Verdict, family: Family) -> Candidate | None:
    """Return a family's best baseline, or its best where none raced.

    None if the recommended strategy is of that family.
    """
    own = [c for c in verdict.every_candidate if c.family == family != verdict.recommended.family]
    return next((c for c in own if c.baseline), own[0] if own else None)


# -- a strategy in words ---------------------------------------------------------------------------------


def in_words(strategies: Sequence[FreezingStrategy], *, num_groups: int, epochs: int) -> str:
    """Return strategies of one family and depth in plain words, with their ranges of rates."""
    one = strategies[0]
    family, depth = one.family(num_groups), one.freeze_depth
    parts = [] if one.pretrained else ["start from random weights"]
    if depth:
        parts.append(f"keep {_frozen(depth, num_groups)} frozen")
    rest = "everything" if depth == 0 else "it and the head" if depth == num_groups - 1 else "the rest"
    alone = [s.unfreeze_epoch for s in strategies]
    if depth == num_groups:
        parts.append("train the head alone")
    elif not any(alone) and family != Family.GRADUAL_UNFREEZING:
        parts.append(f"train {rest}")
    else:
        if any(alone):
            parts.append(f"train the head alone for the first {_span(map(str, alone))} of {epochs} epochs")
        else:
            parts.append("train the head and the last group")
        if family == Family.GRADUAL_UNFREEZING:
            every = _span(str(s.epochs_per_group) for s in strategies)
            rest = f"one more group every {'epoch' if every == '1' else f'{every} epochs'}, the last first"
        parts.append(f"then {rest}")
    return f"{', '.join(parts)}{_rates(strategies, num_groups)}"


def _frozen(depth: int, num_groups: int) -> str:
    if depth == num_groups:
        return "the whole backbone"
    if depth == num_groups - 1 and depth > 1:
        return f"all but the last of {num_groups} groups"
    return f"the first {'' if depth == 1 else f'{depth} '}of {num_groups} groups"


def _rates(strategies: Sequence[FreezingStrategy], num_groups: int) -> str:
    one = strategies[0]
    head = _span(f"{s.head_lr:.2g}" for s in strategies)
    if one.freeze_depth == num_groups or all(s.backbone_lr_ratio == 1 and s.layer_lr_decay == 1 for s in strategies):
        text = f" at {head}"
    else:
        groups = _span(f"{s.head_lr * s.backbone_lr_ratio:.2g}" for s in strategies)
        less = ", less towards the input" if any(s.layer_lr_decay < 1 for s in strategies) else ""
        text = f", at {head} for the head and {groups} for the groups{less}"
    if one.parameters in ("norm", "bias") and one.freeze_depth < num_groups:
        text += f", of the groups only {'normalisation layers' if one.parameters == 'norm' else 'biases'}"
    return text + (", rates falling to 0" if all(s.scheduler != "constant" for s in strategies) else "")


# -- numbers -------------------------------------------------------------------------------------------------


def _span(texts: Iterable[str]) -> str:
    """Return numbers, as texts, as one number or as "least-most"."""
    ordered = sorted(texts, key=float)
    return ordered[0] if float(ordered[0]) == float(ordered[-1]) else f"{ordered[0]}-{ordered[-1]}"


def _differences(candidates: Sequence[Candidate], metric: Metric) -> str:
    return _span(difference(c.expected_loss, metric) for c in candidates)


def difference(value: float, metric: Metric) -> str:
    """Format a difference of scores without its unit: "0.3" or "15" points, "0.012"."""
    if not metric.percent:
        return f"{value:.2g}"
    return f"{100 * value:.{0 if 100 * abs(value) >= 9.95 else 1}f}"


def _change(step: Step, metric: Metric, *, unit: bool = False) -> str:
    scale, digits = (100, ".1f") if metric.percent else (1, ".2g")
    change, low, high = (format(scale * value, digits) for value in (step.change, step.low, step.high))
    points = " points" if unit and metric.percent else ""
    return f"{change}{points} ({low}{' to ' if step.low < 0 else '-'}{high})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
