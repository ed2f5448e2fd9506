import torch
from hypothesis import given
from hypothesis import strategies as st

from search.data.batches import EndlessSampler, EvalLoader, train_loader
from search.data.examples import Examples


@given(st.integers(1, 50), st.integers(1, 120), st.integers(0, 3))
def test_epochs_cut_an_endless_stream_of_shuffled_passes(size, length, seed):
    sampler = EndlessSampler(size, length=length, seed=seed)
    stream = []
    for epoch in range(6):
        sampler.set_epoch(epoch)
        drawn = list(sampler)
        assert len(drawn) == length
        for number, (_, view) in enumerate(drawn):
            assert view == (epoch * length + number) // size, "a view is the number of its pass"
        stream += [index for index, _ in drawn]
    for start in range(0, len(stream) - size + 1, size):
        assert sorted(stream[start : start + size]) == list(range(size)), "a pass reads each example once"


def test_an_epoch_is_a_function_of_its_number():
    sampler = EndlessSampler(40, length=32, seed=0)
    sampler.set_epoch(3)
    third = list(sampler)
    sampler.set_epoch(0)
    list(sampler)
    sampler.set_epoch(3)
    assert list(sampler) == third


def test_a_loader_gives_whole_batches_a_fixed_number_of_steps():
    examples = Examples(torch.arange(40).float()[:, None], torch.arange(40))
    batches = list(train_loader(examples, batch_size=32, steps=10, seed=0))
    assert [len(targets) for _, targets in batches] == [32] * 10
    assert all(torch.equal(inputs[:, 0].long(), targets) for inputs, targets in batches)


def test_a_pass_reads_each_example_once():
    examples = Examples(torch.zeros(40, 1), torch.arange(40))
    batches = list(train_loader(examples, batch_size=32, steps=None, seed=0))
    assert sorted(torch.cat([targets for _, targets in batches]).tolist()) == list(range(40))


def test_a_pass_leaves_a_lone_last_example_to_the_next():
    examples = Examples(torch.zeros(33, 1), torch.arange(33))
    assert [len(targets) for _, targets in train_loader(examples, batch_size=32, steps=None, seed=0)] == [32]
    lone = Examples(torch.zeros(1, 1), torch.arange(1))
    assert [len(targets) for _, targets in train_loader(lone, batch_size=32, steps=None, seed=0)] == [1]


def test_an_evaluation_reads_everything_in_order():
    examples = Examples({"a": torch.arange(10)}, torch.arange(10))
    batches = list(EvalLoader(examples, batch_size=4))
    assert [len(targets) for _, targets in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([inputs["a"] for inputs, _ in batches]), torch.arange(10))
