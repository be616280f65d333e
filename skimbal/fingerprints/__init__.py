"""Checksums and descriptions of values and of the code that they run, the same in every process.

A cache that outlives a program asks for them, to notice that a function has been edited.
"""

from skimbal.fingerprints.arrays import digest
from skimbal.fingerprints.code import code_digest
from skimbal.fingerprints.parts import UndescribedError
from skimbal.fingerprints.patches import PACKAGES, patches
from skimbal.fingerprints.values import (
    describe,
    describe_images,
    differences,
    identity,
    text_digest,
)
from skimbal.fingerprints.versions import installed_version, package_version, source_digest

__all__ = [
    "PACKAGES",
    "UndescribedError",
    "code_digest",
    "describe",
    "describe_images",
    "differences",
    "digest",
    "identity",
    "installed_version",
    "package_version",
    "patches",
    "source_digest",
    "text_digest",
]
