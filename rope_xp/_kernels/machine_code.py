"""The loop over rows as machine code, which LLVM makes of the formula when it is first needed.

The formula is called with operands that write instructions for whole vectors. So there is nothing for an
optimizer to find out, and what remains for LLVM takes a few hundredths of a second. No two operations are
fused into one rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import CFUNCTYPE, POINTER, c_int64
from typing import Any, NamedTuple

import numpy as np

VECTOR_BYTES = 64  # of numbers to compute with: LLVM takes as many registers as that needs
ALIGNMENT = 16  # of results that bypass the caches


class Loop(NamedTuple):
    """What the machine code depends on. Dtypes are names, uint16 that of bfloat16."""

    turn: Callable[..., Any]  # the formula
    dtype: str
    table_dtype: str  # the dtype to compute in
    interleaved: bool
    bypasses_caches: bool  # rows of the result start at multiples of ALIGNMENT


class MachineCode:
    """A compiled loop, called with the integers that `_Writer.write` reads from its argument."""

    def __init__(self, loop: Loop) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
            llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten(), opt=1
        )
        module = llvm.parse_assembly(str(_Writer(loop).write()))
        self._owner = llvm.create_mcjit_compiler(module, target)
        self._owner.finalize_object()
        address = self._owner.get_function_address("rotate")
        self._call = CFUNCTYPE(None, POINTER(c_int64))(address)  # without Python's lock

    def __call__(self, *integers: int) -> None:
        self._call((c_int64 * len(integers))(*integers))


@functools.cache
def compiled(loop: Loop) -> MachineCode:
    return MachineCode(loop)


@functools.cache
def converts_float16() -> bool:
    """Whether the processor does; elsewhere LLVM would call functions that are not there."""
    import llvmlite.binding as llvm

    is_arm = llvm.get_process_triple().startswith(("aarch64", "arm64"))
    return is_arm or bool(llvm.get_host_cpu_features().get("f16c"))


class _Operand:
    """An operand of the formula: a vector of numbers."""

    def __init__(self, builder: Any, vector: Any) -> None:
        self.builder, self.vector = builder, vector

    def __mul__(self, other: _Operand) -> _Operand:
        return _Operand(self.builder, self.builder.fmul(self.vector, other.vector))

    def __add__(self, other: _Operand) -> _Operand:
        return _Operand(self.builder, self.builder.fadd(self.vector, other.vector))

    def __sub__(self, other: _Operand) -> _Operand:
        return _Operand(self.builder, self.builder.fsub(self.vector, other.vector))


class _Writer:
    """Writes the function. Addresses are integers, and count bytes."""

    def __init__(self, loop: Loop) -> None:
        from llvmlite import ir

        self.ir, self.loop = ir, loop
        self.int32, self.int64 = ir.IntType(32), ir.IntType(64)
        elements = {
            "float16": ir.HalfType(),
            "uint16": ir.IntType(16),
            "float32": ir.FloatType(),
            "float64": ir.DoubleType(),
        }
        self.element, self.wide = elements[loop.dtype], elements[loop.table_dtype]
        self.size, self.wide_size = (
            np.dtype(name).itemsize for name in (loop.dtype, loop.table_dtype)
        )
        self.module = ir.Module()
        kind = ir.FunctionType(ir.VoidType(), [self.int64.as_pointer()])
        self.function = ir.Function(self.module, kind, "rotate")
        self.b = ir.IRBuilder(self.function.append_basic_block())

    def write(self) -> Any:
        """The module with the function. The integers that this reads are:

        - whether the rotation is inverse, the number of runs of features to copy, that of parts to rotate;
        - the sizes of three axes, and for x, cos, sin and out the address and the strides along them;
        - for each run its first feature and its length;
        - for each part the first and the second feature of its first pair, the first column of the tables,
          and the number of pairs.
        """
        inverse, n_runs, n_parts, *sizes = (self.read(n) for n in range(6))
        arrays = [[self.read(n + m) for m in range(4)] for n in range(6, 22, 4)]
        signs = (self.ir.Constant(self.wide, sign) for sign in (-1.0, 1.0))
        self.sign = self.b.select(self.b.trunc(inverse, self.ir.IntType(1)), *signs)
        with self.repeat(sizes[0]) as i, self.repeat(sizes[1]) as j, self.repeat(sizes[2]) as k:
            rows = [
                self.at(self.at(self.at(address, i, strides[0]), j, strides[1]), k, strides[2])
                for address, *strides in arrays
            ]
            with self.repeat(n_runs) as n:
                run = self.at(22, n, 2)
                self.copy(rows, *(self.read(self.at(run, m)) for m in range(2)))
            parts = self.at(22, n_runs, 2)
            with self.repeat(n_parts) as n:
                part = self.at(parts, n, 4)
                self.rotate(rows, *(self.read(self.at(part, m)) for m in range(4)))
        if self.loop.bypasses_caches:
            self.b.fence("seq_cst")  # before others read it
        self.b.ret_void()
        return self.module

    def copy(self, rows: list[Any], first: Any, count: Any) -> None:
        source, target = (self.at(row, first, self.size) for row in (rows[0], rows[3]))

        def write(n: Any, lanes: int) -> None:
            offset = self.at(0, n, self.size)
            self.store(
                self.load(self.at(source, offset), self.element, lanes), self.at(target, offset)
            )

        self.in_vectors(count, write)

    def rotate(self, rows: list[Any], first: Any, second: Any, column: Any, count: Any) -> None:
        x, cos, sin, out = rows
        cos, sin = (self.at(table, column, self.wide_size) for table in (cos, sin))
        features = (first,) if self.loop.interleaved else (first, second)
        sources, targets = (
            [self.at(row, feature, self.size) for feature in features] for row in (x, out)
        )
        width = self.size * (3 - len(features))  # from one pair to the next

        def write(n: Any, lanes: int) -> None:
            c, s = (
                self.load(self.at(table, n, self.wide_size), self.wide, lanes)
                for table in (cos, sin)
            )
            s = self.b.fmul(s, self.in_all_lanes(self.sign, lanes))
            pairs = [
                self.load(self.at(source, n, width), self.element, lanes * width // self.size)
                for source in sources
            ]
            if self.loop.interleaved:
                pairs = [self.shuffle(pairs, range(m, 2 * lanes, 2)) for m in (0, 1)]
            operands = (*(self.widen(each) for each in pairs), c, s)
            turned = self.loop.turn(*(_Operand(self.b, each) for each in operands))
            pairs = [self.narrow(each.vector) for each in turned]
            if self.loop.interleaved:
                pairs = [self.shuffle(pairs, [m // 2 + m % 2 * lanes for m in range(2 * lanes)])]
            for target, each in zip(targets, pairs, strict=True):
                self.store(each, self.at(target, n, width))

        self.in_vectors(count, write)

    def widen(self, vector: Any) -> Any:
        """To the dtype of the tables."""
        lanes, kind = vector.type.count, self.ir.VectorType(self.wide, vector.type.count)
        if self.loop.dtype == "uint16":  # the upper half of a float32
            bits = self.b.zext(vector, self.ir.VectorType(self.int32, lanes))
            return self.b.bitcast(self.b.shl(bits, self.constant([16] * lanes)), kind)
        return vector if self.element is self.wide else self.b.fpext(vector, kind)

    def narrow(self, vector: Any) -> Any:
        """To the dtype of the result."""
        b, lanes = self.b, vector.type.count
        kind = self.ir.VectorType(self.element, lanes)
        if self.loop.dtype == "uint16":
            bits = b.bitcast(vector, self.ir.VectorType(self.int32, lanes))
            odd = b.and_(b.lshr(bits, self.constant([16] * lanes)), self.constant([1] * lanes))
            rounded = b.add(b.add(bits, self.constant([0x7FFF] * lanes)), odd)  # ties to even
            is_nan = b.fcmp_unordered("uno", vector, vector)
            bits = b.select(is_nan, self.constant([0x7FC00000] * lanes), rounded)
            return b.trunc(b.lshr(bits, self.constant([16] * lanes)), kind)
        return vector if self.element is self.wide else b.fptrunc(vector, kind)

    def in_vectors(self, count: Any, write: Callable[[Any, int], None]) -> None:
        """``write(n, lanes)`` for the features or pairs from n on, to ``count``: as wide as they allow."""
        done: Any = 0
        most = VECTOR_BYTES // self.wide_size
        for lanes in (most, most // 4, 1):
            with self.repeat(self.at(count, 1 - lanes), done, lanes) as done:
                write(done, lanes)

    @contextmanager
    def repeat(self, stop: Any, start: Any = 0, step: int = 1) -> Iterator[Any]:
        """A loop around what is written inside. Behind it the counter is the first that was too large."""
        before = self.b.block
        head, body, after = (self.function.append_basic_block() for _ in range(3))
        self.b.branch(head)
        self.b.position_at_end(head)
        counter = self.b.phi(self.int64)
        counter.add_incoming(self.integer(start), before)
        self.b.cbranch(self.b.icmp_signed("<", counter, stop), body, after)
        self.b.position_at_end(body)
        yield counter
        counter.add_incoming(self.at(counter, step), self.b.block)
        self.b.branch(head)
        self.b.position_at_end(after)

    def integer(self, value: Any) -> Any:
        return self.ir.Constant(self.int64, value) if isinstance(value, int) else value

    def constant(self, values: Sequence[int]) -> Any:
        return self.ir.Constant(self.ir.VectorType(self.int32, len(values)), [*values])

    def at(self, start: Any, count: Any, size: Any = 1) -> Any:
        """``start + count * size``"""
        step = count if size == 1 else self.b.mul(self.integer(count), self.integer(size))
        return step if start == 0 else self.b.add(self.integer(start), self.integer(step))

    def read(self, index: Any) -> Any:
        """An integer from the argument."""
        return self.b.load(self.b.gep(self.function.args[0], [self.integer(index)]))

    def load(self, address: Any, element: Any, lanes: int) -> Any:
        kind = self.ir.VectorType(element, lanes)
        align = self.wide_size if element is self.wide else self.size
        return self.b.load(self.b.inttoptr(address, kind.as_pointer()), align=align)

    def store(self, vector: Any, address: Any) -> None:
        store = self.b.store(vector, self.b.inttoptr(address, vector.type.as_pointer()))
        store.align = self.size
        if self.loop.bypasses_caches and vector.type.count * self.size % ALIGNMENT == 0:
            store.align = ALIGNMENT
            store.set_metadata("nontemporal", self.module.add_metadata([self.int32(1)]))

    def in_all_lanes(self, number: Any, lanes: int) -> Any:
        kind = self.ir.VectorType(self.wide, lanes)
        vector = self.ir.Constant(kind, self.ir.Undefined)
        vector = self.b.insert_element(vector, number, self.int32(0))
        return self.shuffle([vector], [0] * lanes)

    def shuffle(self, vectors: list[Any], lanes: Sequence[int]) -> Any:
        """These lanes of one vector or two, counted from the first on."""
        return self.b.shuffle_vector(vectors[0], vectors[-1], self.constant(lanes))
