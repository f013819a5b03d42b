"""`modelpilot.metrics.aggregation.Exporter`: the next due file, from Postgres to the sink."""

from collections.abc import Callable

from infra.db.export import COLUMNS, ExportLedger
from infra.warehouse.parquet import write_parquet
from infra.warehouse.sink import FileSink


class NoExporter:
    """No sink is configured."""

    async def export_next(self, beat: Callable[[int], None]) -> int | None:
        """Nothing is ever due."""
        return None


class ParquetExporter:
    """Writes each request into exactly one file. May be killed anywhere: what was not confirmed is written again, under
    the same name and with the same rows."""

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
            rows = await write_parquet(self._ledger.rows(file), COLUMNS, unfinished, beat)
            size = unfinished.stat().st_size
        await self._ledger.confirm(file, rows, size)
        return rows
