"""A rehearsal of CUDA: code for a GPU runs, and is watched, where there is none.

``pretend()`` gives a CPU build of torch two CUDA devices whose memory is the memory of the CPU.
Their tensors are CUDA tensors to torch: autograd with a thread for each device, autocast, gradient
scaling, fused optimisers, generators, streams, pickles and ``map_location`` take the paths of CUDA.
Each kernel runs on the CPU, so its results can be compared with results of the CPU. The devices
refuse operations that CUDA refuses, such as operations between devices.

Run the tests marked ``cuda`` on the pretended devices, or on the GPU of a machine that has one::

    python -m tests.rehearsal -m cuda tests

Options go to pytest. The command ends with a table of the events that a GPU would have had. Tests
count them by the fixture ``account``, which is the function :func:`account`::

    @pytest.mark.cuda
    def test_a_fit_does_not_wait(account):
        with account("wait") as events:
            clf.fit(X, y)
        assert not events.lines(), events

The rehearsal cannot show speed, the arithmetic of CUDA and cuDNN, triton, NCCL, or a real race. Its
files: ``build`` compiles ``shim.cpp``, ``account`` counts events, ``streams`` follows the order
between streams, ``kernels`` runs operations, ``devices`` replaces functions of ``torch.cuda``,
``__main__`` and ``plugin`` run pytest, ``startup`` reaches processes that tests start.
"""

from .account import KINDS, USUAL, Account, account, can_count
from .build import CannotPretendError, is_pretended, obstacle, start_again

__all__ = [
    "KINDS",
    "USUAL",
    "Account",
    "CannotPretendError",
    "account",
    "can_count",
    "is_pretended",
    "obstacle",
    "pretend",
    "start_again",
]


def pretend() -> None:
    """Give torch two CUDA devices for the rest of this process. Call it before torch is imported.

    Raises
    ------
    CannotPretendError
        If there is no compiler, if torch has been imported, or if this torch is not known.
    """
    from .devices import install

    install()
