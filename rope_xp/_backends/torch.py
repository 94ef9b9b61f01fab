"""PyTorch: eager or compiled, with gradients, transforms and subclasses that change what memory means.

`is_accessible` is the guard of every kernel that reads and writes a tensor's memory itself. What only
private names of torch can tell is looked up once; where one is missing, no tensor is taken for accessible
memory, and torch's own operations run.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rope_xp._backends import torch_cuda
from rope_xp._backends.huge_pages import advise_huge_pages
from rope_xp._backends.library import Array, Cuda, Device, Dtype, Library, Memory, Namespace


def load() -> Namespace:
    import array_api_compat.torch as xp

    return xp


_loaded = functools.cache(load)  # torch.compile warns of it


def is_compiling() -> bool:
    import torch

    return bool(torch.compiler.is_compiling())


def is_exporting() -> bool:
    import torch

    exporting = getattr(torch.compiler, "is_exporting", None)  # since torch 2.7
    return exporting is not None and bool(exporting())


def is_tracing() -> bool:
    import torch

    return is_compiling() or bool(torch.jit.is_tracing())


def has_no_bits() -> bool:
    import torch

    # The older exporter to ONNX, which traces; the one with dynamo=True has them.
    return bool(torch.jit.is_tracing() and torch.onnx.is_in_onnx_export())


def is_traced_size(value: Any) -> bool:
    import torch

    if isinstance(value, torch.Tensor):  # sizes under torch.jit.trace
        return value.ndim == 0 and not value.is_floating_point() and torch.jit.is_tracing()
    return isinstance(value, torch.SymInt)


def shared_namespace(first: Array, second: Array, third: Array) -> Namespace | None:
    import torch

    plain = type(first) is type(second) is type(third) is torch.Tensor
    if not plain or is_tracing() or not first.device == second.device == third.device:
        return None
    if not first.layout is second.layout is third.layout is torch.strided:
        return None
    return None if first.is_nested or second.is_nested or third.is_nested else _loaded()


def unsupported(tensor: Array) -> str | None:
    import torch

    if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
        return f"a tensor with values, got {type(tensor).__name__}: materialize it first"
    if tensor.is_nested:
        advice = "pass each of its tensors, or padded ones"
        if tensor.layout is torch.jagged:
            advice = (
                "pass its values() with packed_positions(its offsets(), n), and make what comes back nested "
                "with torch.nested.nested_tensor_from_jagged"
            )
        return f"a tensor that is not nested, got a nested one: {advice}"
    if tensor.layout is not torch.strided:
        return f"a dense tensor, got one with layout {tensor.layout}: pass its to_dense()"
    if tensor.is_quantized:
        return f"a floating tensor, got a quantized one ({tensor.dtype}): pass its dequantize()"
    return None


def from_host(values: Any, device: Device | None, *, copy: bool = True) -> Array:
    import torch

    if copy:
        # torch can share memory with few arrays, and what it keeps for a gradient must not change. By
        # its name, which NumPy has two types for: torch knows uint64, but not the ulonglong of 2**63.
        values = values.astype(values.dtype.name, order="C")
    made = torch.from_numpy(values)
    return made if made.device == device else made.to(device)


class PrivateNames(NamedTuple):
    """What torch has no public name for."""

    # How many modes see operations, and how many do so above autograd; the mode at a place below autograd.
    dispatch_mode_depth: Callable[[], int]
    early_mode_depth: Callable[[], int]
    dispatch_mode: Callable[[int], Any]
    innermost_transform: Callable[[], Any]  # of torch.func, None outside of all


@functools.cache
def private_names() -> PrivateNames | None:
    """None where one of them is missing."""
    import torch

    depth = getattr(torch._C, "_len_torch_dispatch_stack", None)
    innermost = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", None)
    early = getattr(torch._ops, "_len_torch_dispatch_stack_pre_dispatch", None)
    mode = getattr(torch._C, "_get_dispatch_stack_at", None)
    if depth is None or early is None or mode is None or innermost is None:
        return None
    return PrivateNames(depth, early, mode, innermost)


# Modes that count some operations (collectives, floating-point operations), none of which is in a rotation, and
# change nothing: what is measured under them has the bits that it has without.
_COUNTERS = ("torch.distributed.tensor.debug", "torch.utils.flop_counter")


def are_counters(names: PrivateNames) -> bool:
    """Whether all modes below autograd only count."""
    modes = map(names.dispatch_mode, range(names.dispatch_mode_depth()))
    return all(type(mode).__module__ in _COUNTERS for mode in modes)


def is_plain(*tensors: Array | None) -> bool:
    """Whether these are eager tensors of torch's own types, seen by no tracer, and by modes that count at most."""
    import torch

    if is_tracing():
        return False
    names = private_names()
    if names is None or names.early_mode_depth() > 0:
        return False
    if names.dispatch_mode_depth() > 0 and not are_counters(names):
        return False
    for tensor in tensors:  # sooner than `all` of a generator
        if tensor is None:
            continue
        if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
            return False
        if tensor.layout is not torch.strided:
            return False
    return True


def is_transformed(tensor: Array) -> bool:
    """Whether a transform (``torch.func``, batched gradients) wraps a tensor, or it has a tangent."""
    import torch

    try:
        tensor.data_ptr()
    except RuntimeError:  # under vmap, grad and jvp
        return True
    return torch.autograd.forward_ad.unpack_dual(tensor).tangent is not None


def is_batched_gradient(tensor: Array) -> bool:
    """Whether autograd batches gradients (``is_grads_batched``): its batching knows few operations."""
    names = private_names()
    return is_transformed(tensor) and names is not None and names.innermost_transform() is None


def is_memory(tensor: Array) -> bool:
    """Whether an eager tensor is what its memory says."""
    # Fake, meta and functionalized tensors have no address (nor have empty ones); a minus sign that
    # torch has put off is not in the memory.
    return not is_transformed(tensor) and tensor.data_ptr() != 0 and not tensor.is_neg()


def is_differentiated(*tensors: Array) -> bool:
    """Whether torch records a gradient for one of the tensors."""
    import torch

    return torch.is_grad_enabled() and any(t.requires_grad for t in tensors)


def is_accessible(*tensors: Array | None) -> bool:
    import torch

    given = [t for t in tensors if t is not None]
    return (
        is_plain(*given)
        and all(t.device.type == "cpu" and is_memory(t) for t in given)
        and not is_differentiated(*given)
        and is_memory(torch.empty(1))  # torch.func.functionalize wraps new tensors only
    )


def is_accessible_on_cuda(*tensors: Array | None) -> bool:
    x, *others = (t for t in tensors if t is not None)
    return (
        bool(x.is_cuda)
        and is_plain(x, *others)
        and all(t.device == x.device and is_memory(t) for t in (x, *others))
        and not is_differentiated(x, *others)
        and is_memory(x.new_empty(1))
        and torch_cuda.is_available()
    )


def empty(x: Array) -> Array:
    import torch

    made = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    advise_huge_pages(made.data_ptr(), made.nbytes)
    return made


def scratch(count: int, size: int, dtype: Dtype, like: Array) -> list[Array]:
    import torch

    return list(torch.empty((count, size), dtype=dtype, device=like.device))


def tile_size(x: Array, *, scratch: bool = True) -> int:
    # Enough for the threads of torch's operations.
    return 2**18 if scratch else int(math.prod(x.shape))


def as_complex(array: Array, dtype: Dtype) -> Array | None:
    import torch

    pairs = array.reshape((*array.shape[:-1], array.shape[-1] // 2, 2))  # always a view
    *strides, last = pairs.stride()
    if array.dtype != dtype or last != 1 or any(n % 2 for n in (*strides, array.storage_offset())):
        return None
    return torch.view_as_complex(pairs)


def make_complex(real: Array, imag: Array) -> Array:
    import torch

    return torch.complex(real, imag)


def rounds_uniformly(x: Array, n_pairs: int) -> bool:
    # What is left over behind torch's vectors, at the end of each row and of what each thread takes,
    # is rounded otherwise: the result would depend on the number of threads.
    count = math.prod(x.shape[:-1]) * n_pairs
    used = max(1, min(threads(), -(-count // 2**15)))
    return n_pairs % 8 == 0 and count % (8 * used) == 0


def as_numpy(array: Array) -> Any:
    import torch

    array = array.detach()
    return (array.view(torch.uint16) if array.dtype == torch.bfloat16 else array).numpy()


def is_dtype(dtype: object) -> bool:
    import torch

    return isinstance(dtype, torch.dtype)


def host_values(array: Array) -> Any:
    # Empty tensors have no address, and no values. What has a gradient is data to its end.
    if not is_plain(array) or array.device.type != "cpu" or not is_memory(array):
        return None
    names = private_names()
    # Within a transform, torch gives no memory to NumPy, not even of what the transform does not see.
    if array.requires_grad or names is None or names.innermost_transform() is not None:
        return None
    return (
        array.float() if array.dtype.itemsize == 2 and array.is_floating_point() else array
    ).numpy()


def to_host(array: Array) -> Any:
    array = array.detach().cpu()
    # NumPy has no bfloat16, nor the dtypes of eight bits.
    array = array.float() if array.dtype.itemsize < 4 else array
    return array.resolve_conj().resolve_neg().numpy()


def read_only(array: Array) -> str:
    import torch

    if is_compiling() or not array.is_inference() or torch.is_inference_mode_enabled():
        return ""
    return "it was made in inference mode, which has ended"


def mark_written(out: Array) -> None:
    # torch counts writes to a tensor, to refuse gradients that would need what was there before.
    import torch

    if not out.is_inference():
        torch.autograd.graph.increment_version(out)


def threads() -> int:
    import torch

    return int(torch.get_num_threads())


def missing_dtypes(device: Device | None) -> frozenset[str]:
    # Under torch.compile a device may be as the user named it.
    on_mps = getattr(device, "type", device) == "mps"
    return frozenset(("float64",)) if on_mps else frozenset()


def trace_constant(value: Any, device: Device) -> Array:
    """A host constant where ``torch.compile`` traces."""
    import torch

    if isinstance(value, np.ndarray):
        return torch.from_numpy(value).to(device)
    dtype = torch.float64 if _has_float(value) else torch.int64
    return torch.tensor(value, dtype=dtype, device=device)


def _has_float(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_has_float(each) for each in value)
    return isinstance(value, float)


def register_rows_at_length(function: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    """Make ``function`` an operation of compiled programs: what it returns is no constant of them."""
    import torch

    def arrays(integers: Any, reals: Any, dtype: Dtype, device: Device) -> tuple[Array, Array]:
        return (
            torch.as_tensor(integers, dtype=torch.int32, device=device).clone(),
            torch.as_tensor(reals, dtype=dtype, device=device).clone(),
        )

    def run(*arguments: Any) -> tuple[Array, Array]:
        schedule, seq_len, _, exponents, dtype, device = arguments
        return arrays(*function(schedule, seq_len, tuple(exponents)), dtype, device)

    def describe(*arguments: Any) -> tuple[Array, Array]:
        _, _, n_pairs, exponents, dtype, device = arguments
        n = len(exponents)
        return (
            torch.empty((2 * n, n_pairs), dtype=torch.int32, device=device),
            torch.empty((n + 2, n_pairs), dtype=dtype, device=device),
        )

    arguments = "str schedule, SymInt seq_len, int n_pairs, int[] exponents"
    schema = f"({arguments}, ScalarType dtype, Device device) -> (Tensor, Tensor)"
    operation = torch.library.custom_op(
        "rope_xp::rows_at_length", run, mutates_args=(), schema=schema
    )
    operation.register_fake(describe)


def rows_at_length(*arguments: Any) -> tuple[Array, Array]:
    import torch

    made: tuple[Array, Array] = torch.ops.rope_xp.rows_at_length(*arguments)
    return made


def register_values(classes: tuple[type, ...]) -> None:
    import torch

    torch.serialization.add_safe_globals([*classes])


def cache_block_bytes(array: Array) -> int:
    # Not for what has a gradient, whatever the grad mode: blocks are written in place. The cache of
    # each core has its share.
    if not is_accessible(array) or array.requires_grad:
        return 0
    return 2**18 * threads()


def materialize_under_compile(array: Array) -> Array:
    # Inductor repeats cheap elementwise code in every use: without this hint, tables for positions
    # that it counts by itself take a minute to compile instead of seconds.
    import torch

    if torch.compiler.is_dynamo_compiling():
        return torch.as_strided(array, array.shape, array.stride())
    return array


def write_slots(
    arrays: Sequence[Array], index: Any, values: Sequence[Array], valid: Array | None
) -> Sequence[Array] | None:
    import torch

    if is_differentiated(*arrays, *values) or any(map(read_only, arrays)):
        return None
    if is_compiling():
        if is_exporting() or _is_in_transform():
            return None
    elif not is_plain(*arrays, *values) or any(map(is_transformed, (*arrays, *values))):
        return None
    if isinstance(index, int) or is_traced_size(index):
        for array, fresh in zip(arrays, values, strict=True):
            array.narrow(-2, index, fresh.shape[-2]).copy_(fresh)
        return arrays
    # The indexed axes in front, next to each other: inductor then writes in place, too.
    first = index.ndim - 1
    place = (torch.arange(len(index), device=index.device)[:, None], index) if first else index
    for array, given in zip(arrays, values, strict=True):
        slots, fresh = array.transpose(-2, first), given.transpose(-2, first)
        if valid is not None:
            which = valid[(..., *(None,) * (fresh.ndim - valid.ndim))]
            fresh = torch.where(which, fresh, slots[place])
        slots[place] = fresh
    return arrays


def _is_in_transform() -> bool:
    """Whether ``torch.compile`` traces inside of a transform of torch.func."""
    import torch

    return bool(torch._C._functorch.maybe_current_level() is not None)


def vjp(function: Callable[[Array], Array], x: Array, grad_out: Array) -> Array | None:
    import torch

    x = x.detach().requires_grad_()
    with torch.enable_grad():
        y = function(x)
    if not y.requires_grad:
        return None
    found: Array = torch.autograd.grad(y, x, grad_out, allow_unused=True)[0]
    return found


LIBRARY = Library(
    "torch",
    load,
    shared_namespace=shared_namespace,
    cache_block_bytes=cache_block_bytes,
    materialize_under_compile=materialize_under_compile,
    unsupported=unsupported,
    from_host=from_host,
    missing_dtypes=missing_dtypes,
    register_values=register_values,
    is_dtype=is_dtype,
    # Not torch.get_default_dtype(): a program may set it to bfloat16, which skips integers from 257 on.
    real_dtype=lambda xp, device: xp.float32,
    host_values=host_values,
    to_host=to_host,
    is_near_host=lambda array: is_plain(array) and array.device.type == "cpu",
    read_only=read_only,
    has_no_bits=has_no_bits,
    is_traced_size=is_traced_size,
    write_slots=write_slots,
    vjp=vjp,
    memory=Memory(
        is_accessible=is_accessible,
        empty=empty,
        scratch=scratch,
        tile_size=tile_size,
        as_complex=as_complex,
        make_complex=make_complex,
        complex_product_is_exact=True,
        rounds_uniformly=rounds_uniformly,
        as_numpy=as_numpy,
        mark_written=mark_written,
        threads=threads,
        operations_are_threaded=True,
    ),
    cuda=Cuda(
        is_accessible=is_accessible_on_cuda,
        empty=lambda x: x.new_empty(x.shape),
        address=lambda tensor: int(tensor.data_ptr()),
        strides=lambda tensor: tuple(tensor.stride()),
        launch=torch_cuda.launch,
        mark_written=mark_written,
    ),
)
