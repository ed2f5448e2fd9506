"""Sentences on how strategies were judged, and on the labels that repeats share."""

from collections.abc import Mapping

from search.verdict.judge import Verdict, earlier
from search.verdict.results import Results

MOST = 0.5
"""Share of the labels above which two draws have most of theirs in common."""


def judging(results: Results) -> list[str]:
    """Return sentences on how the strategies were judged, and how far the answer reaches."""
    sentences = [_judge(results)]
    final = results.all if results.all in results.sizes else 0
    if results.cross_validated and final:
        sentences.append(f"All means {final} of {results.labels} labels: the others test.")
    elif final:
        sentences.append(
            f"At {final} labels, which is all there are, repeats differ by their seed alone: that answer is for these "
            "labels."
        )
    if shared := _sharing(results):
        sizes = " and ".join(", ".join(map(str, shared)).rsplit(", ", 1))
        sentences.append(
            f"Repeats at {sizes} of {results.labels} labels have most of them in common, so they are no new draws; the "
            "intervals allow for that."
        )
    return [sentence for sentence in sentences if sentence]


def added(results: Results, verdicts: Mapping[int, Verdict]) -> list[str]:
    """Return sentences on labels that were added, and the verdicts from before."""
    if not results.earlier:
        return []
    labels = [view.labels for view in results.views][::-1]
    sentences = [
        f"Labels were added: repeats drew from {labels[0]} labels, then from {', then '.join(map(str, labels[1:]))}."
    ]
    for size, verdict in sorted(verdicts.items()):
        if verdict.extension < results.extension:
            sentences.append(f"At {size} the verdict is drawn from {verdict.labels} labels.")
        for one in earlier(results, verdict):
            sentences.append(f"At {size}, drawn from {one.labels} labels, it was: {one.sentence}.")
    return sentences


def _judge(results: Results) -> str:
    if results.cross_validated:
        return (
            f"Judged by cross-validation: there is no test set, so one part of the {results.labels} labels tests at a "
            "time, in a repeat that does not train on it."
        )
    counts = {row.test_examples for row in results.rows if row.test_examples is not None}
    return f"Judged on {max(counts)} test examples, which no trial trains on." if counts else ""


def _sharing(results: Results) -> list[int]:
    """Return the sizes at which two draws have most labels in common."""
    if not results.labels:
        return []
    end = results.labels if results.cross_validated else results.all or results.labels
    return [size for size in results.sizes if size > MOST * results.labels and size < end]
