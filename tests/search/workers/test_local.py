"""Local worker processes: how they start."""

import multiprocessing
import signal

from search.workers.local import _without_interrupts


def blocked(connection):
    connection.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_worker_starts_with_sigint_blocked_and_its_parent_not():
    """Else a worker that is still importing prints a traceback at Ctrl-C."""
    context = multiprocessing.get_context("spawn")
    for _ in range(2):  # the first start of all also starts a process of multiprocessing's own, which unblocks it
        reader, writer = context.Pipe(duplex=False)
        process = context.Process(target=blocked, args=(writer,))
        with _without_interrupts():
            process.start()
        assert reader.poll(60)
        assert reader.recv()
        process.join()
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
