"""What is around every page: header, navigation, banner, and the switch between UTC and local time."""

import dash_mantine_components as dmc
from dash import Dash, Input, Output, State, dcc, html

from dashboard.access import LOGOUT_PATH
from dashboard.frame.elements import Element, aria, in_browser, notice, page_link
from dashboard.frame.page import Page, PageContext
from dashboard.frame.page_frame import ZONE
from dashboard.frame.urls import link, page_path, query, search_with, site_path
from dashboard.pages import PAGES
from modelpilot.errors import DependencyUnavailable
from modelpilot.management.site import Visitor

# Component ids.
URL = "url"
CONTENT = "page"
MAIN = "main"
TITLE = "title"
NAVIGATION = "navigation"
DRAWER = "drawer"
DRAWER_NAVIGATION = "drawer-navigation"
BURGER = "burger"
BANNER = "banner"
COLOR_SCHEME = "color-scheme"
ZONE_CHOICE = "zone-choice"


def shell(csrf: str | None = None, visitor: Visitor | None = None) -> Element:
    """The frame of the site for one visitor. `csrf` goes into the logout form; None: nobody is logged in."""
    return dmc.MantineProvider(
        [
            dcc.Location(id=URL, refresh="callback-nav"),
            dcc.Store(id=TITLE),
            dcc.Store(id=ZONE),
            html.A("Skip to content", href=f"#{MAIN}", className="mp-skip"),
            html.Header(_header(), className="mp-header"),
            html.Div(
                [
                    html.Aside(_side(NAVIGATION, csrf, visitor), className="mp-side"),
                    html.Main(
                        [html.Div(id=BANNER), html.Div(id=CONTENT)],
                        id=MAIN,
                        tabIndex="-1",
                        className="mp-main",
                    ),
                ],
                className="mp-body",
            ),
            dmc.Drawer(
                html.Div(_side(DRAWER_NAVIGATION, csrf, visitor), className="mp-drawer"),
                id=DRAWER,
                title="Menu",
                size="16rem",
                padding="md",
                transitionProps={"duration": 0},
                closeButtonProps={"aria-label": "Close the menu"},
            ),
        ],
        defaultColorScheme="auto",
    )


def _header() -> list[Element]:
    zone = dmc.SegmentedControl(
        id=ZONE_CHOICE,
        data=[{"value": "utc", "label": "UTC"}, {"value": "local", "label": "Local"}],
        value="utc",
        size="xs",
        persistence="zone",
        persistence_type="local",
        **aria(label="Time zone"),
    )
    toggle = dmc.ColorSchemeToggle(
        id=COLOR_SCHEME,
        lightIcon="Dark",  # shown in the light scheme: it names what a click brings
        darkIcon="Light",
        variant="default",
        size="sm",
        w="auto",
        px="xs",
        fz="xs",
        **aria(label="Switch between light and dark"),
    )
    burger = dmc.Burger(id=BURGER, size="sm", hiddenFrom="md", **aria(label="Menu"))
    brand = dcc.Link("ModelPilot", href=site_path("/"), className="mp-brand")
    return [burger, brand, dmc.Group([zone, toggle], gap="xs", wrap="nowrap", ml="auto")]


def _side(navigation: str, csrf: str | None, visitor: Visitor | None) -> list[Element]:
    return [html.Nav(id=navigation, **aria(label="Pages")), *_account(csrf, visitor)]


def _account(csrf: str | None, visitor: Visitor | None) -> list[Element]:
    if visitor is None or csrf is None or visitor.username is None:
        return []
    role = "admin, sees everybody" if visitor.role == "admin" else f"sees {visitor.user_id}"
    logout = html.Form(
        [
            dcc.Input(type="hidden", name="csrf", value=csrf),
            html.Button("Log out", type="submit", className="mp-button"),
        ],
        method="post",
        action=site_path(LOGOUT_PATH),
    )
    who = html.Div([dmc.Text(visitor.username, size="sm", fw=600), dmc.Text(role, size="xs", c="dimmed")])
    return [html.Div([who, logout], className="mp-account")]


def register_shell(app: Dash, context: PageContext) -> None:
    """Attach the callbacks of the shell."""

    @app.callback(
        Output(CONTENT, "children"),
        Output(TITLE, "data"),
        Input(URL, "pathname"),
        State(URL, "search"),
    )
    def show_page(path: str, search: str) -> tuple[Element, str]:
        """The page of a path."""
        found = page_at(path)
        return (found.layout(context, search), found.title) if found else (_no_such_page(), "No such page")

    @app.callback(
        Output(NAVIGATION, "children"),
        Output(DRAWER_NAVIGATION, "children"),
        Output(BANNER, "children"),
        Input(URL, "pathname"),
        Input(URL, "search"),
    )
    def show_navigation(path: str, search: str) -> tuple[list[Element], list[Element], Element | None]:
        """The entries, with the current one marked; they keep the range and the viewer."""
        entries = navigation(path, search)
        return entries, entries, banner(context, search, path)

    in_browser(app, "zone", Output(ZONE, "data"), Input(ZONE_CHOICE, "value"))
    in_browser(app, "title", Output(MAIN, "title"), Input(TITLE, "data"))
    in_browser(
        app,
        "drawer",
        Output(DRAWER, "opened"),
        Output(BURGER, "opened"),
        Input(BURGER, "opened"),
        Input(DRAWER_NAVIGATION, "n_clicks"),
        at_start=False,
    )
    in_browser(
        app,
        "drawerClosed",
        Output(BURGER, "opened", allow_duplicate=True),
        Input(DRAWER, "opened"),
        at_start=False,
    )


def page_at(path: str | None) -> Page | None:
    """The page of a path; a slash at the end does not matter."""
    wanted = page_path(path)
    return next((page for page in PAGES if page.path == wanted), None)


def navigation(path: str | None, search: str | None) -> list[Element]:
    """The links to the pages that have an entry."""
    current = page_at(path)
    marked = current and (current.under or current.path)
    return [_entry(page, search, page.path == marked) for page in PAGES if page.under is None]


def _entry(page: Page, search: str | None, current: bool) -> Element:
    marker = aria(current="page") if current else {}
    return html.Div(dmc.Anchor(page.title, href=link(page.path, search), className="mp-navigation-link", **marker))


def banner(context: PageContext, search: str | None, path: str | None) -> Element | None:
    """Says whose data is shown where that is not what the visitor would expect."""
    wanted, visitor = query(search).get("as"), context.visitor
    if not wanted or wanted == visitor.tenant(None):
        return None
    if visitor.role != "admin":
        return notice(
            f"These are your own requests ({visitor.user_id})", "Only admins see other users.", color="yellow"
        )
    try:
        known = wanted in context.reader.tenants()
    except DependencyUnavailable:
        known = True
    everybody = page_link("Show everybody", site_path(page_path(path)) + search_with(search, {"as": None}))
    if not known:
        return notice(f"There is no user {wanted}", everybody, color="yellow")
    return notice(f"Looking as {wanted}", "All figures are this user's. ", everybody, color="yellow")


def _no_such_page() -> Element:
    return html.Div(
        [
            dmc.Title("No such page", order=1, size="h3", mb="md"),
            notice(
                "This address leads nowhere",
                page_link("Go to the overview", site_path("/")),
                color="blue",
            ),
        ]
    )
