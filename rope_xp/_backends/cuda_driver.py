"""CUDA by the C interfaces of NVRTC and of the driver, for a library that has no public way of its own.

Both are documented and kept from version to version: https://docs.nvidia.com/cuda/nvrtc and
https://docs.nvidia.com/cuda/cuda-driver-api.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

#: What every compilation needs: NVRTC makes one operation with one rounding of a product and a sum.
OPTIONS = ("-fmad=false",)


@functools.cache
def load(function: str, *names: str) -> Any:
    """The first of these shared libraries that is there and has the function, or None."""
    for name in names:
        try:
            library = ctypes.CDLL(name)
            getattr(library, function)
        except (OSError, AttributeError):
            continue
        return library
    return None


def load_nvrtc(*names: str) -> Any:
    return load("nvrtcGetCUBIN", *names)  # since CUDA 11.1


def driver() -> Any:
    return load("cuLaunchKernel", "libcuda.so.1", "nvcuda.dll")


def compile_source(nvrtc: Any, source: str, architecture: str) -> bytes:
    """Machine code for an architecture (``sm_80``), from CUDA C++."""
    program = ctypes.c_void_p()
    options = [option.encode() for option in (*OPTIONS, f"--gpu-architecture={architecture}")]
    _check(
        "NVRTC",
        nvrtc.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), b"rope_xp.cu", 0, None, None
        ),
    )
    try:
        failed = nvrtc.nvrtcCompileProgram(
            program, len(options), (ctypes.c_char_p * len(options))(*options)
        )
        if failed:
            log = _text(nvrtc.nvrtcGetProgramLogSize, nvrtc.nvrtcGetProgramLog, program)
            msg = f"NVRTC cannot compile this kernel for {architecture}: {log.decode(errors='replace')}"
            raise RuntimeError(msg)
        return _text(nvrtc.nvrtcGetCUBINSize, nvrtc.nvrtcGetCUBIN, program)
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _text(size_of: Any, get: Any, program: ctypes.c_void_p) -> bytes:
    size = ctypes.c_size_t()
    _check("NVRTC", size_of(program, ctypes.byref(size)))
    buffer = ctypes.create_string_buffer(size.value)
    _check("NVRTC", get(program, buffer))
    return buffer.raw


def ensure_context(device: int) -> None:
    """Give a thread that has called the driver for the first time the context of its device."""
    context, handle = ctypes.c_void_p(), ctypes.c_int()
    _check("CUDA", driver().cuCtxGetCurrent(ctypes.byref(context)))
    if not context:
        _check("CUDA", driver().cuDeviceGet(ctypes.byref(handle), device))
        _check("CUDA", driver().cuDevicePrimaryCtxRetain(ctypes.byref(context), handle))
        _check("CUDA", driver().cuCtxSetCurrent(context))


def load_function(code: bytes, name: str) -> ctypes.c_void_p:
    """A kernel of machine code, in the current context of this thread, for as long as there is that context."""
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    _check("CUDA", driver().cuModuleLoadData(ctypes.byref(module), code))
    _check("CUDA", driver().cuModuleGetFunction(ctypes.byref(function), module, name.encode()))
    return function


def launch(
    function: ctypes.c_void_p,
    grid: tuple[int, int],
    stream: int,
    addresses: tuple[int, ...],
    numbers: tuple[int, ...],
) -> None:
    """Start a kernel of (blocks, threads) whose parameters are pointers, then numbers of 32 bits."""
    _, where = _integers(numbers)
    pointers = (ctypes.c_uint64 * len(addresses))(*addresses)
    start = ctypes.addressof(pointers)
    where = (*range(start, start + 8 * len(addresses), 8), *where)
    parameters = (ctypes.c_void_p * len(where))(*where)
    blocks, threads = grid
    sizes = map(ctypes.c_uint, (blocks, 1, 1, threads, 1, 1, 0))  # and no shared memory
    _check(
        "CUDA",
        driver().cuLaunchKernel(function, *sizes, ctypes.c_void_p(stream), parameters, None),
    )


@functools.lru_cache(maxsize=4096)
def _integers(numbers: tuple[int, ...]) -> tuple[Any, tuple[int, ...]]:
    """Memory with these numbers of 32 bits, and the address of each."""
    memory = (ctypes.c_int32 * len(numbers))(*numbers)
    start = ctypes.addressof(memory)
    return memory, tuple(range(start, start + 4 * len(numbers), 4))


def _check(what: str, status: int) -> None:
    if status:
        msg = f"{what} fails with error {status}"
        raise RuntimeError(msg)
