"""Logits and features of many rows."""

__all__ = ["ACTIVATION_BYTES"]

#: Least and greatest size of the largest output of a layer for a block that is predicted, in bytes.
#: On a CPU it is to stay in the cache, unless many weights have to be read for each block, and
#: below the 32 MiB that glibc returns to the kernel each time.
ACTIVATION_BYTES = {"cpu": (2**22, 2**24), "cuda": (2**28, 2**28)}
