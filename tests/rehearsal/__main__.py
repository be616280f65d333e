"""Run pytest on pretended CUDA devices, or on the GPU of the machine.

python -m tests.rehearsal -m cuda tests
"""

from .build import has_gpu, start_again

if __name__ == "__main__":
    start_again("pytest", *([] if has_gpu() else ["-p", "tests.rehearsal.plugin"]))
