"""Operations of the pretended devices: checks of CUDA's rules, and the kernel of the CPU.

A kernel of the CPU works on an alias of each tensor, which has the same memory and another device.
Results get memory of the device, except results that are views or arguments.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import streams
from .account import note

#: Operations whose arguments may be on the CPU beside others on CUDA.
MAY_MIX = {
    "aten::copy_",
    "aten::_copy_from",
    "aten::set_.source_Tensor",
}
#: The size or the value of their result is needed on the host.
WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::unique_dim",
    "aten::equal",
    "aten::is_nonzero",
    "aten::repeat_interleave.Tensor",
}
#: Their indices may be on the CPU, too.
INDEXING = ("aten::index.Tensor", "aten::index_put", "aten::_index_put_impl_")
#: CUDA refuses them under torch.use_deterministic_algorithms.
UNREPEATABLE = {
    "aten::_adaptive_avg_pool2d_backward",
    "aten::_adaptive_avg_pool3d_backward",
    "aten::adaptive_avg_pool2d_backward",
    "aten::adaptive_max_pool2d_backward",
    "aten::avg_pool3d_backward",
    "aten::bincount",
    "aten::cumsum",
    "aten::fractional_max_pool2d_backward",
    "aten::grid_sampler_2d_backward",
    "aten::grid_sampler_3d_backward",
    "aten::histc",
    "aten::kthvalue",
    "aten::median",
    "aten::nll_loss2d_forward",
    "aten::put_",
    "aten::reflection_pad1d_backward",
    "aten::reflection_pad2d_backward",
    "aten::reflection_pad3d_backward",
    "aten::upsample_bilinear2d_backward",
    "aten::upsample_linear1d_backward",
    "aten::upsample_trilinear3d_backward",
}
#: torch chooses the kernel of these by the kind of device, and knows none for a CUDA that is
#: not compiled in.
CHOSEN_BY_DEVICE = (
    "copy_",
    "convolution",
    "convolution_backward",
    "_local_scalar_dense",
    "record_stream",
    "native_group_norm",
    "native_group_norm_backward",
    "_softmax",
    "_softmax_backward_data",
    "_log_softmax",
    "_log_softmax_backward_data",
    "equal",
)
#: gloo sends tensors of the CPU.
COLLECTIVE = ("allreduce_", "broadcast_", "allgather_", "barrier")
CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}
_libraries: list[torch.library.Library] = []


def register() -> None:
    """Take over every operation on tensors of CUDA."""
    _libraries[:] = [torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")]
    _libraries[0].fallback(run, "CUDA")
    for name in CHOSEN_BY_DEVICE:
        packet = getattr(torch.ops.aten, name)
        for overload in packet.overloads():
            if "out" not in overload:
                op = getattr(packet, overload)
                _libraries[1].impl(op, functools.partial(run, op), "CUDA")
    if torch.distributed.is_available():
        _libraries.append(torch.library.Library("c10d", "IMPL"))
        for name in COLLECTIVE:
            op = getattr(torch.ops.c10d, name).default
            _libraries[2].impl(name, functools.partial(run, op), "CUDA")


class Traits(NamedTuple):
    """What the schema of an operation says."""

    family: str
    name: str
    takes_tensor: list[bool]
    arguments: list[str]
    written: list[str]
    outputs: list[str]
    draws: bool


@functools.cache
def traits_of(op: torch._ops.OpOverload) -> Traits:
    family, arguments = op._schema.name, op._schema.arguments
    overload = "" if op._overloadname in ("", "default") else f".{op._overloadname}"
    return Traits(
        family,
        family + overload,
        [str(argument.type) == "Tensor" for argument in arguments],
        [argument.name for argument in arguments],
        [argument.name for argument in arguments if argument.is_write],
        [argument.name for argument in arguments if argument.is_out],
        torch.Tag.nondeterministic_seeded in op.tags,
    )


def alias(tensor: Tensor) -> Tensor:
    """Return a tensor of the CPU with the same memory."""
    storage = tensor.untyped_storage()
    memory = torch._C._construct_storage_from_data_pointer(
        storage.data_ptr(), torch.device("cpu"), storage.nbytes()
    )
    result = torch.empty(0, dtype=tensor.dtype)
    return result.set_(memory, tensor.storage_offset(), tensor.size(), tensor.stride())


class Aliases:
    """The tensors of a call on the CPU, and the way back."""

    def __init__(self) -> None:
        self.given: list[Tensor] = []
        self.pairs: dict[int, tuple[Tensor, Tensor]] = {}

    @property
    def on_cuda(self) -> list[Tensor]:
        return [tensor for tensor in self.given if tensor.is_cuda]

    def lower(self, value: Any) -> Any:
        """Replace tensors and devices of CUDA, also in lists."""
        if isinstance(value, Tensor):
            self.given.append(value)
            if not value.is_cuda:
                return value
            if id(value) not in self.pairs:
                self.pairs[id(value)] = value, alias(value)
            return self.pairs[id(value)][1]
        if isinstance(value, (list, tuple)):
            return type(value)(map(self.lower, value))
        return torch.device("cpu") if isinstance(value, torch.device) else value

    def original(self, lowered: Tensor) -> Tensor:
        return next(value for value, other in self.pairs.values() if other is lowered)

    def lift(self, value: Any, device: torch.device, name: str) -> Any:
        """Return results as tensors of the device; views stay views."""
        if isinstance(value, (list, tuple)):
            return type(value)(self.lift(item, device, name) for item in value)
        if not isinstance(value, Tensor) or value.is_cuda:
            return value
        for original, lowered in self.pairs.values():
            if value is lowered:
                return original
            same = value.untyped_storage().data_ptr() == lowered.untyped_storage().data_ptr()
            if same and value.numel():
                return original.as_strided(value.size(), value.stride(), value.storage_offset())
        lifted = torch.empty_strided(value.size(), value.stride(), dtype=value.dtype, device=device)
        alias(lifted).copy_(value)
        streams.follow(name, [lifted], [lifted])
        return lifted


def run(op: torch._ops.OpOverload, *args: Any, **kwargs: Any) -> Any:
    """Run an operation of CUDA on the CPU, in the same memory."""
    traits = traits_of(op)
    with torch._C._AutoDispatchBelowAutograd():
        if traits.name == "aten::copy_":
            return copy(*args, **kwargs)
        if traits.name == "aten::record_stream":
            return streams.record_stream(*args)
        return Call(op, traits, laid_out(traits.family, args), kwargs).result()


def number(value: float, is_wide: bool) -> Tensor:
    """Return a number as a tensor, with all its digits where it meets float64."""
    return torch.tensor(value, dtype=torch.float64 if is_wide and type(value) is float else None)


class Call:
    """One call of an operation."""

    def __init__(self, op: Any, traits: Traits, args: Any, kwargs: dict[str, Any]) -> None:
        self.op, self.traits, self.kwargs = op, traits, kwargs
        # Numbers that stand for tensors come as numbers.
        is_wide = any(isinstance(x, Tensor) and x.dtype == torch.float64 for x in args)
        self.args = [
            number(value, is_wide) if wanted and isinstance(value, (bool, int, float)) else value
            for wanted, value in zip(traits.takes_tensor, args, strict=False)
        ]
        self.aliases = Aliases()
        self.low = [self.aliases.lower(value) for value in self.args]
        self.options = {key: self.aliases.lower(value) for key, value in kwargs.items()}

    def result(self) -> Any:
        self.refuse()
        self.note_waits()
        on_cuda, name = self.aliases.on_cuda, self.traits.name
        streams.follow(name, on_cuda, self.written())
        device = on_cuda[0].device if on_cuda else streams.device_of()
        generator = generator_of(device) if self.traits.draws else contextlib.nullcontext()
        with generator:
            result = self.compute()
        return self.aliases.lift(result, device, name)

    def refuse(self) -> None:
        """Refuse the operations that CUDA refuses."""
        name = self.traits.name
        # CUDA takes numbers of the CPU, as long as they have no axis.
        devices = {str(t.device) for t in self.aliases.given if t.is_cuda or t.ndim > 0}
        if len(devices) > 1 and name not in MAY_MIX and not name.startswith(INDEXING):
            names = " and ".join(sorted(devices))
            note("mix", names, name)
            raise RuntimeError(
                "Expected all tensors to be on the same device, but found at least two devices, "
                f"{names}! (rehearsal, in {name})"
            )
        is_unrepeatable = name.split(".")[0] in UNREPEATABLE
        if is_unrepeatable and torch.are_deterministic_algorithms_enabled():
            raise RuntimeError(f"{name} does not have a deterministic implementation (rehearsal)")

    def note_waits(self) -> None:
        name = self.traits.name
        if name in WAITING:
            streams.host_waits("for a result", name)
        if name.startswith(INDEXING):
            for index in self.args[1]:
                if index is not None and index.dtype in (torch.bool, torch.uint8):
                    streams.host_waits("for the size of a mask", name)
                elif index is not None and not index.is_cuda:
                    streams.host_waits("h2d of an index", name)

    def written(self) -> list[Tensor]:
        """Return the tensors that the operation writes to."""
        values = dict(zip(self.traits.arguments, self.args, strict=False)) | self.kwargs
        items = [values[name] for name in self.traits.written if name in values]
        return [t for item in items for t in (item if isinstance(item, (list, tuple)) else [item])]

    def compute(self) -> Any:
        """Call the kernel of the CPU."""
        name, low = self.traits.name, self.low
        if name.startswith(("aten::_softmax", "aten::_log_softmax")):
            low = widened(name, low)
        outputs = {
            key: self.options[key]
            for key in self.traits.outputs
            if isinstance(self.options.get(key), Tensor)
        }
        if outputs:
            return self.compute_into(outputs)
        result = self.op(*low, **self.options)
        return result.to(self.args[3]) if name.endswith("softmax_backward_data") else result

    def compute_into(self, outputs: dict[str, Tensor]) -> Any:
        """Compute results for tensors of the device, which may have to be resized for them."""
        fresh = {key: torch.empty(0, dtype=out.dtype) for key, out in outputs.items()}
        self.op(*self.low, **self.options | fresh)
        for key, out in outputs.items():
            original, new = self.aliases.original(out), fresh[key]
            if out.size() != new.size():
                resized = torch.empty_strided(
                    new.size(), new.stride(), dtype=new.dtype, device=original.device
                )
                original.set_(resized.untyped_storage(), 0, new.size(), new.stride())
            alias(original).copy_(new)
        results = [self.aliases.original(out) for out in outputs.values()]
        return results[0] if len(results) == 1 else tuple(results)


def copy(to: Tensor, source: Tensor, non_blocking: bool = False) -> Tensor:
    """Copy within a device, between devices or between host and device."""
    operation = "aten::copy_"
    if to.device.type != source.device.type:
        note_transfer(operation, to, source, non_blocking)
    elif to.dtype == source.dtype and to.stride() != source.stride() and to.ndim > 3:
        note("layout", "copy", operation)
    streams.follow(operation, [t for t in (to, source) if t.is_cuda], [to])
    target, origin = (alias(t) if t.is_cuda else t for t in (to, source))
    target.copy_(origin)
    return to


def note_transfer(operation: str, to: Tensor, source: Tensor, non_blocking: bool) -> None:
    """Note whether the host waits for a copy between host and device."""
    direction, host = ("h2d", source) if to.is_cuda else ("d2h", to)
    is_pinned = host.is_pinned()
    if not non_blocking or (direction == "d2h" and not is_pinned):
        memory = "pinned" if is_pinned else "pageable"
        streams.host_waits(f"{direction}, {memory}", operation)
    elif not is_pinned:
        note("staged", f"{direction}, pageable", operation)


def laid_out(family: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copy tensors to the order in memory that kernels of CUDA need; the copies are events."""
    if family == "aten::native_group_norm":  # its kernel needs channels-first
        return (args[0].contiguous(), *args[1:])
    if family == "aten::native_group_norm_backward":
        return (args[0].contiguous(), args[1].contiguous(), *args[2:])
    n = {"aten::convolution": 2, "aten::convolution_backward": 3}.get(family)
    order = CHANNELS_LAST.get(args[0].ndim) if n else None
    # If one of images, weights (and gradient) has channels-last, cuDNN gets all in this order.
    if order and any(is_only(tensor, order) for tensor in args[:n]):
        return (*(tensor.contiguous(memory_format=order) for tensor in args[:n]), *args[n:])
    return args


def is_only(tensor: Tensor, order: torch.memory_format) -> bool:
    """Tell whether a tensor has the order, and not the order of channels-first as well."""
    return tensor.is_contiguous(memory_format=order) and not tensor.is_contiguous()


def widened(name: str, args: list[Any]) -> list[Any]:
    """CUDA's softmax computes halves in float32; the CPU's takes them in float32 only."""
    if "backward" in name:
        return [*args[:3], args[0].dtype]
    return [args[0].float() if args[2] else args[0], args[1], False]


@contextlib.contextmanager
def generator_of(device: torch.device) -> Iterator[None]:
    """Draw from the generator of the device in place of the generator of the CPU."""
    generator = torch.cuda.default_generators[device.index]
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(generator.get_state())
    try:
        yield
    finally:
        generator.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(before)
