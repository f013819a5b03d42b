"""A table that stays readable on a phone: there each row becomes a list of label and value."""

from collections.abc import Iterable, Sequence

import dash_mantine_components as dmc

from dashboard.elements import Element


def labelled_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Sequence[int] = ()) -> Element:
    """The columns at `numeric` are aligned to the right, where they stand side by side."""
    kinds = [{"className": "mp-number"} if index in numeric else {} for index in range(len(columns))]
    head = [dmc.TableTh(column, **kind) for column, kind in zip(columns, kinds, strict=True)]
    body = [dmc.TableTr(_cells(columns, row, kinds)) for row in rows]
    table = [dmc.TableThead(dmc.TableTr(head)), dmc.TableTbody(body)]
    return dmc.Table(table, striped=True, className="mp-requests", fz="xs")


def _cells(columns: Sequence[str], row: Sequence[object], kinds: Sequence[dict[str, str]]) -> list[Element]:
    return [
        dmc.TableTd(cell, **kind, **{"data-label": column})
        for column, cell, kind in zip(columns, row, kinds, strict=True)
    ]
