"""A checksum of data: numbers, texts, containers, arrays, networks and other objects."""

import os
import sys
import types
from collections.abc import Callable, Iterable, Mapping, Set
from pathlib import PurePath
from typing import Any, ClassVar

import numpy as np
import torch

from skimbal.fingerprints.arrays import are_images, digest
from skimbal.fingerprints.files import Mentions, content_of
from skimbal.fingerprints.parts import PLAIN, PartedChecksum, Trail

__all__ = ["ValueChecksum"]


class ValueChecksum(PartedChecksum):
    """A checksum of a value. A subclass knows code."""

    #: Kinds of values that need a special description, with the methods for them.
    kinds: ClassVar[tuple[tuple[Any, Callable[[Any, Any], None]], ...]] = ()
    #: Names of files that the code here only writes.
    written: Set[str] = frozenset()

    def __init__(self, trail: Trail, seen: dict[object, tuple[str, object]] | None = None) -> None:
        super().__init__(trail, seen)
        #: One function may name a folder, another a file in it, and a third one opens it.
        self.mentions = Mentions()

    def add_module(self, value: types.ModuleType) -> None:
        """Add a module of which any attribute may be used."""
        raise NotImplementedError

    def add_instance(self, value: Any) -> None:
        """Add an object of any other kind."""
        raise NotImplementedError

    def add(self, value: object) -> None:
        """Add a value of any kind."""
        if type(value) in PLAIN:
            self.write(type(value).__name__, repr(value))
            if type(value) is str and value not in self.written:
                self.mentions.texts.add(value)
                self.add_file(value)
        elif type(value) in (tuple, frozenset):  # constants: whether two are one is chance
            self.add_items(value)
        elif isinstance(value, types.ModuleType):
            self.add_module(value)
        elif not self.is_known(value, id(value)):
            add = next((add for kinds, add in self.kinds if isinstance(value, kinds)), None)
            if type(value) in (list, dict, set):
                self.add_items(value)
            elif are_images(value):
                self.add_images(value)
            elif add is not None:
                add(self, value)
            else:
                self.add_instance(value)

    def add_items(self, value: Any) -> None:
        """Add the entries of a container."""
        self.write(type(value).__name__, str(len(value)))
        if isinstance(value, Mapping):
            for key, item in value.items():
                self.add(key)
                with self.within(f"entry {key!r}", item):
                    self.add(item)
        elif isinstance(value, set | frozenset):
            # Their order differs between processes.
            digests = [f"{type(item).__name__} {item!r}" for item in value if type(item) in PLAIN]
            for item in value:
                if type(item) in PLAIN:
                    continue
                single = self.apart()
                single.mentions = self.mentions
                single.add(item)
                digests.append(single.hexdigest())
            self.write(*sorted(digests))
        else:
            for item in value:
                self.add(item)

    def add_named(
        self, kind: str, values: Iterable[tuple[str, object]], written: Set[str] = frozenset()
    ) -> None:
        """Add values with names, some of which may be names of files that are written."""
        for name, value in values:
            self.write(name)
            with self.within(f"{kind} {name!r}", value):
                if name in written and isinstance(value, str | PurePath):
                    self.write(str(value))
                else:
                    self.add(value)

    def add_array(self, value: Any) -> None:
        """Add an array of numpy."""
        if type(value) not in (np.ndarray, np.memmap):
            self.add_instance(value)
            return
        self.write("array", str(value.shape), repr(value.dtype))
        if value.dtype.hasobject:
            self.add(value.tolist())
        else:
            self.write_bytes(np.ascontiguousarray(value).reshape(-1).view(np.uint8).data)

    def add_tensor(self, value: Any) -> None:
        """Add a tensor."""
        if type(value) not in (torch.Tensor, torch.nn.Parameter) or value.is_sparse:
            self.add_instance(value)
            return
        self.write("tensor", str(tuple(value.shape)), str(value.dtype), str(value.requires_grad))
        data = value.detach().cpu().contiguous().reshape(-1)
        self.write_bytes(data.view(torch.uint8).numpy().data)

    def add_images(self, value: Any) -> None:
        """Add images that may be in files."""
        facts = value.fingerprint()
        with self.within("class"):
            self.add(type(value))
        if facts is None:
            self.write(str(digest(value)))
        else:
            self.add_items(dict(facts))

    def add_network(self, value: Any) -> None:
        """Add a module of torch."""
        if isinstance(value, torch.jit.ScriptModule):
            raise self.refuse(value, "which is compiled")
        with self.within("class"):
            self.add(type(value))
        for name, item in sorted(vars(value).items()):
            if "_hooks" in name:  # their keys count the hooks of the whole program
                item = list(item.values())
            if name in ("_modules", "_parameters", "_buffers"):
                self.add_named(name.strip("_")[:-1], item.items())
            elif item or not isinstance(item, list | dict | set):
                self.add_named("attribute", [(name, item)])

    def add_ufunc(self, value: Any) -> None:
        """Add a function of numpy for each entry."""
        homes = [np, sys.modules.get("scipy.special")]
        if not any(getattr(home, value.__name__, None) is value for home in homes):
            raise self.refuse(value, "which hides the function that it calls")
        self.write("ufunc", value.__name__)

    def add_mentioned(self) -> None:
        """Add files in folders, and variables of the environment, that any part names."""
        for path in self.mentions.files():
            with self.within(f"file {os.path.basename(path)!r}"):
                self.write(os.path.basename(path), content_of(path) or "")
        self.add_named("variable", self.mentions.variables())

    def add_file(self, path: str) -> None:
        """Add the contents of a file that a text names."""
        content = content_of(path)
        if content is not None:
            with self.within(f"file {path!r}"):
                self.write(content)

    def add_member(self, value: Any) -> None:
        """Add a member of an enumeration."""
        self.write("member", value._name_)
        self.add(type(value))
        self.add(value._value_)

    def add_path(self, value: Any) -> None:
        """Add a path."""
        self.write(type(value).__name__)
        self.add(str(value))
