"""Pretend CUDA devices in each Python process that a rehearsal starts."""

import os

# An empty list of devices is how a process asks for none.
if os.environ.get("SKIMBAL_REHEARSES_CUDA") == "1" and os.environ.get("CUDA_VISIBLE_DEVICES") != "":
    from tests.rehearsal import pretend

    pretend()
