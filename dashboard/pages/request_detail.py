"""The page of one request. What is on it comes from `request_detail_view`."""

from dash import Dash, Output, dcc, html

from dashboard import ids
from dashboard.elements import Element
from dashboard.frame import Asked, Filled, Frame
from dashboard.links import REQUEST_PATH, REQUESTS_PATH, requests_link
from dashboard.notices import notice
from dashboard.page import Page, PageContext
from dashboard.pages.request_detail_view import parts

FRAME = Frame("request", "Request", ranged=False, skeleton=(92, 320))


def layout(context: PageContext, search: str) -> Element:
    """The empty page."""
    return FRAME.layout(context, search, html.Div(id=ids.REQUEST_DETAIL))


def register(app: Dash, context: PageContext) -> None:
    """Attach the page's callbacks to an app."""
    FRAME.register(app, context)

    @FRAME.fills(app, context, Output(ids.REQUEST_DETAIL, "children"))
    def fill(asked: Asked) -> Filled:
        wanted, owner = asked.values.get("id"), asked.values.get("owner")
        if not wanted:
            return Filled(([],), _notice("No request chosen", "Choose one in the ", asked), hidden=True)
        found = context.readers.requests.detail(asked.scope.user_id, wanted, owner)
        if found is None:
            said = "There is none of this id among those that you may see, or its time of keeping is over. Back to the "
            return Filled(([],), _notice("No such request", said, asked), hidden=True)
        return Filled((parts(found, context.config, asked.zone, asked.search),))


def _notice(title: str, text: str, asked: Asked) -> Element:
    back = dcc.Link("list of requests", href=requests_link(asked.search), className="mp-link")
    return notice(title, text, back, ".", color="blue")


PAGE = Page(path=REQUEST_PATH, title="Request", layout=layout, register=register, under=REQUESTS_PATH)
