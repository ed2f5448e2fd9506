"""Local worker processes: how they come up."""

import multiprocessing
import signal

from search.workers.local import _without_interrupts


def tell(connection):
    connection.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))


def test_a_worker_comes_up_with_ctrl_c_blocked_and_its_parent_goes_on_without():
    # Else one that is still importing prints what it was at.
    context = multiprocessing.get_context("spawn")
    for _ in range(2):  # the first start of all starts a helper of multiprocessing's too, which unblocks it
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=tell, args=(theirs,))
        with _without_interrupts():
            process.start()
        assert ours.poll(60)
        assert ours.recv()
        process.join()
        assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
