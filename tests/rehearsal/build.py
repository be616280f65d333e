"""The compiled part of the rehearsal: built once for each torch, and loaded before torch."""

import ctypes
import functools
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

#: The rehearsal replaces private names of torch, which differ between versions.
KNOWN_TORCH = "2.13"
SOURCE = Path(__file__).with_name("shim.cpp")
#: Told to processes that are started from here, see startup/sitecustomize.py.
VARIABLE = "SKIMBAL_REHEARSES_CUDA"


class CannotPretendError(RuntimeError):
    """CUDA cannot be pretended in this process."""


def torch_folder() -> Path:
    return Path(importlib.util.find_spec("torch").origin).parent


def torch_builds() -> dict[str, str]:
    """Read version and CUDA version of torch from its text, as torch must not be imported yet."""
    text = (torch_folder() / "version.py").read_text("utf-8")
    found = dict(re.findall(r"^(__version__|cuda)\b.*?= '?([^'\n]*)", text, re.MULTILINE))
    return {"version": found["__version__"], "cuda": found.get("cuda", "None")}


def has_gpu() -> bool:
    """Tell whether torch is built for CUDA and the machine has a device."""
    return torch_builds()["cuda"] != "None" and Path("/dev/nvidiactl").exists()


def is_pretended() -> bool:
    """Tell whether the CUDA devices of this process are pretended."""
    return load_shim.cache_info().currsize > 0


def obstacle() -> str | None:
    """Say why CUDA cannot be pretended on this machine; None where it can be."""
    torch = torch_builds()
    if not torch["version"].startswith(KNOWN_TORCH + "."):
        return f"a rehearsal of CUDA needs torch {KNOWN_TORCH}; got torch {torch['version']}"
    if torch["cuda"] != "None":
        return f"a rehearsal of CUDA needs a CPU build of torch; got CUDA {torch['cuda']}"
    if shutil.which("g++") is None:
        return "a rehearsal of CUDA needs g++"
    return None


@functools.cache
def load_shim() -> ctypes.CDLL:
    """Compile the shim unless this has been done, and load it."""
    if reason := obstacle():
        raise CannotPretendError(reason)
    # torch asks only once which kinds of devices there are.
    if "torch" in sys.modules:
        raise CannotPretendError("CUDA must be pretended before torch is imported")
    shim = ctypes.CDLL(str(compiled()))
    for name in ("allocated", "peak", "stream", "block", "held"):
        getattr(shim, f"rehearsal_{name}").restype = ctypes.c_int64
    shim.rehearsal_block.argtypes = [ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64)]
    shim.rehearsal_set_limit.argtypes = [ctypes.c_int, ctypes.c_int64]
    shim.rehearsal_held.argtypes = [ctypes.POINTER(ctypes.c_int64), ctypes.c_int64]
    return shim


def compiled() -> Path:
    """Return the library, in the temporary folder; processes may compile it at the same time."""
    torch = torch_folder()
    content = SOURCE.read_bytes() + (torch / "version.py").read_bytes() + str(torch).encode()
    mark = hashlib.sha256(content).hexdigest()[:12]
    library = Path(tempfile.gettempdir(), f"skimbal-rehearsal-{os.getuid()}-{mark}.so")
    if not library.exists():
        partial = library.with_suffix(f".{os.getpid()}")
        flags = ["-O0", "-w", "-shared", "-fPIC", "-std=c++20", f"-I{torch}/include"]
        flags += [f"-L{torch}/lib", f"-Wl,-rpath,{torch}/lib", "-lc10", "-ltorch_cpu", "-ltorch"]
        subprocess.run(["g++", str(SOURCE), "-o", str(partial), *flags], check=True)
        partial.replace(library)
    return library


def start_again(module: str, *arguments: str) -> None:
    """Replace this process by a module of Python and the arguments of this process.

    CUDA is pretended in it and in its child processes, unless there is a GPU.
    """
    if not has_gpu():
        if reason := obstacle():
            raise CannotPretendError(reason)
        compiled()
        here = Path(__file__).parent
        folders = [here / "startup", here.parents[1], os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(str(folder) for folder in folders if folder)
        os.environ[VARIABLE] = "1"
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments, *sys.argv[1:]])
