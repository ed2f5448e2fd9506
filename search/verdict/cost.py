"""The cost of training a strategy, in floating-point operations."""

from collections.abc import Sequence
from math import inf

from search.verdict.results import Results
from strategies import FreezingStrategy


def gflops(results: Results, strategy: FreezingStrategy, size: int) -> float | None:
    """Return the billions of operations that one run takes at a size.

    None where the study does not know its network's, as of a module that can't be counted.
    """
    if len(results.flops) != results.num_groups + 1:
        return None
    train, wanted = results.spec.train, results.spec.activations
    views = train.views if train.augment else 1
    caches = not results.own_metric and views < inf and (wanted.memory > 0 or wanted.disk > 0)
    count = training_flops(
        strategy,
        forward=results.flops,
        epochs=train.epochs,
        examples=size if train.steps is None else train.steps * train.batch_size,
        cached=int(views) * size if caches else None,
    )
    return count / 1e9


def training_flops(
    strategy: FreezingStrategy, *, forward: Sequence[int], epochs: int, examples: int, cached: int | None
) -> int:
    """Count the operations that training takes.

    forward: operations of one example's forward pass in each layer group, then in the head.
    examples: shown in each epoch.
    cached: training examples, views counted in, whose frozen layers run once; None: in every epoch.

    Of each example shown, what trains takes three times its forward pass: that, the gradients of its outputs, and
    those of its weights. Where norms or biases alone train it takes two, as does a frozen group between trained ones.
    Validation is left out. So are stored activations, which grow with the groups that train, as this cost does.
    """
    *groups, head = forward
    schedule = strategy.schedule(len(groups), epochs)
    per_group = 2 if strategy.parameters in ("norm", "bias") else 3
    total, frozen_epochs = 3 * head * examples * epochs, [0] * len(groups)
    for epoch in range(epochs):
        prefix = schedule.frozen_prefix(epoch)
        for index, trains in enumerate(schedule.trainable(epoch)):
            if index < prefix:
                frozen_epochs[index] += 1
            else:
                total += (per_group if trains else 2) * groups[index] * examples
    for operations, frozen in zip(groups, frozen_epochs, strict=True):
        shown = frozen * examples
        total += operations * (shown if cached is None else min(cached, shown))
    return total
