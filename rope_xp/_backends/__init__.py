"""What is known about array libraries. With `_kernels` the only code that imports them.

Everything else works through the namespace that `namespace` returns. Each library has a file, in which
all that is known about it is one `Library`; `namespaces` finds it, `dtypes` compares dtypes by name.
Libraries are imported when an array of theirs arrives.
"""

from rope_xp._backends.dtypes import (
    FLOATING,
    cast,
    compute_dtype,
    default_integer_dtype,
    dtype_name,
    is_boolean,
    is_floating,
    is_integer,
    require_dtype,
    require_floating,
)
from rope_xp._backends.library import Array, Device, Dtype, Library, Memory, Namespace
from rope_xp._backends.namespaces import (
    cache_block_bytes,
    compat_namespace,
    cumulative_sum,
    default_real_dtype,
    describe,
    device,
    has_internal_overlap,
    host_values,
    is_array,
    is_compiling,
    is_lazy_chunked,
    is_writable,
    library_name,
    library_of,
    map_blocks,
    materialize_under_compile,
    namespace,
    shared_namespace,
    widest,
)

__all__ = [
    "FLOATING",
    "Array",
    "Device",
    "Dtype",
    "Library",
    "Memory",
    "Namespace",
    "cache_block_bytes",
    "cast",
    "compat_namespace",
    "compute_dtype",
    "cumulative_sum",
    "default_integer_dtype",
    "default_real_dtype",
    "describe",
    "device",
    "dtype_name",
    "has_internal_overlap",
    "host_values",
    "is_array",
    "is_boolean",
    "is_compiling",
    "is_floating",
    "is_integer",
    "is_lazy_chunked",
    "is_writable",
    "library_name",
    "library_of",
    "map_blocks",
    "materialize_under_compile",
    "namespace",
    "require_dtype",
    "require_floating",
    "shared_namespace",
    "widest",
]
