"""The table of ids: `item`, then one column per level, `code_0`, `code_1`, ..."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

IDS = pa.schema([("item", pa.int32()), ("code_0", pa.int32())])


def code_columns(table: pa.Table) -> list[str]:
    """Names of the code columns, level by level."""
    return [f"code_{level}" for level in range(sum(name.startswith("code_") for name in table.column_names))]


def id_table(codes: npt.NDArray[np.int64]) -> pa.Table:
    """Codes [N, D] of items 0..N-1 as a table."""
    columns = {"item": pa.array(range(len(codes)), pa.int32())}
    columns |= {f"code_{level}": pa.array(codes[:, level], pa.int32()) for level in range(codes.shape[1])}
    return pa.table(columns)
