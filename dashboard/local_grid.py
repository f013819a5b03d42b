"""A grid that gets all its rows at once, with the chart that they belong to: nothing is asked for block by block.

For tables of more than some fifty rows: Dash takes tenths of a second for every hundred components, and a grid is one.
"""

from collections.abc import Sequence

from dashboard.elements import Element
from dashboard.grids import Column, grid

ROW_PX, HEAD_PX, MOST_PX = 34, 54, 420


def fitting(rows: int) -> dict[str, str]:
    """The `style` of a grid that is as tall as its rows, up to a height at which it scrolls."""
    return {"height": f"{min(max(rows, 2) * ROW_PX + HEAD_PX, MOST_PX)}px", "width": "100%"}


def local_grid(grid_id: str, columns: Sequence[Column], label: str, height: str = "420px") -> Element:
    """An empty one; put the rows into `rowData`. Enter on a row opens its link."""
    made = grid(grid_id, columns, label, height)
    options = made.children.dashGridOptions
    for block_option in ("cacheBlockSize", "maxBlocksInCache"):
        del options[block_option]
    options["suppressColumnVirtualisation"] = True  # screen readers count the columns
    made.children.rowModelType = "clientSide"
    made.children.defaultColDef |= {"cellDataType": False}  # a link is no data type that it could infer
    made.children.eventListeners = {"cellKeyDown": ["modelpilotOpen(params)"]}
    return made
