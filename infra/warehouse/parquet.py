"""Writes the next file of requests that is due: CSV lines, as Postgres copies them out, into a typed Parquet file.

In bounded memory, however many requests an hour has.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from infra.db.metrics.export import COLUMNS, QUOTE, ExportLedger, Kind
from infra.warehouse.sink import FileSink

# One row group: large enough to compress well, small enough to be held a few times over.
GROUP_BYTES = 16 * 1024 * 1024

# JSON columns are strings, which every warehouse can parse.
_TYPES: Mapping[Kind, pa.DataType] = {
    "text": pa.string(),
    "json": pa.string(),
    "float": pa.float64(),
    "int64": pa.int64(),
    "int32": pa.int32(),
    "bool": pa.bool_(),
    "time": pa.timestamp("us", tz="UTC"),
}
_SCHEMA = pa.schema([pa.field(name, _TYPES[kind]) for name, kind in COLUMNS.items()])


class NoExporter:
    """Implements `modelpilot.metrics.aggregation.Exporter` where no sink is configured."""

    async def export_next(self, beat: Callable[[int], None]) -> int | None:
        """Nothing is ever due."""
        return None


class ParquetExporter:
    """Implements `Exporter`: each request gets into exactly one file. May be killed anywhere: what was not confirmed is
    written again, under the same name and with the same rows."""

    def __init__(self, ledger: ExportLedger, sink: FileSink) -> None:
        self._ledger, self._sink = ledger, sink

    async def export_next(self, beat: Callable[[int], None]) -> int | None:
        """Write the next file that is due; its rows, or None where nothing is due. `beat` hears of the rows so far.

        Raises DependencyUnavailable, and OSError where the sink cannot be written.
        """
        await self._ledger.announce()
        file = await self._ledger.next_due()
        if file is None:
            return None
        with self._sink.replacing(file.path) as unfinished:
            rows = await _write_parquet(self._ledger.rows(file), unfinished, beat)
            size = unfinished.stat().st_size
        await self._ledger.confirm(file, rows, size)
        return rows


async def _write_parquet(lines: AsyncIterator[bytes], path: Path, beat: Callable[[int], None]) -> int:
    """Write all lines; how many rows those were. `beat` hears of the rows so far. Raises OSError."""
    rows = 0
    writer = await asyncio.to_thread(pa.parquet.ParquetWriter, path, _SCHEMA, compression="zstd")
    writing = asyncio.create_task(_nothing())
    try:
        async for chunk in _chunks(lines):
            rows += await writing
            beat(rows)
            # A thread turns this chunk into Parquet while the next one is read; there are never more than two.
            writing = asyncio.create_task(asyncio.to_thread(_append, writer, chunk))
        rows += await writing
        beat(rows)
    finally:
        await asyncio.gather(writing, return_exceptions=True)  # a thread must not write into a closed file
        await asyncio.to_thread(writer.close)
    return rows


async def _nothing() -> int:
    return 0


def _append(writer: pa.parquet.ParquetWriter, chunk: bytes) -> int:
    """Write the rows of a chunk as one row group; how many those are."""
    table = _parsed(chunk)
    writer.write_table(table)
    return int(table.num_rows)


async def _chunks(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    waiting: list[bytes] = []
    size = 0
    async for line in lines:
        waiting.append(line)
        size += len(line)
        if size >= GROUP_BYTES:
            yield b"".join(waiting)
            waiting, size = [], 0
    if waiting:
        yield b"".join(waiting)


def _parsed(chunk: bytes) -> pa.Table:
    return pa.csv.read_csv(
        BytesIO(chunk),
        read_options=pa.csv.ReadOptions(column_names=_SCHEMA.names, block_size=2 * GROUP_BYTES, use_threads=False),
        parse_options=pa.csv.ParseOptions(quote_char=QUOTE, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=_SCHEMA,
            # Postgres writes a null as nothing and an empty text as "".
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            true_values=["t"],
            false_values=["f"],
        ),
    )
