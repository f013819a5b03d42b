"""Other spellings of our paths: clients put together a base URL and a path as their authors thought fit.

They are looked at only where no route has the path as it came, so a well-spelled request pays nothing for them.
"""

import re
from collections.abc import Iterator

from aiohttp import hdrs, web
from aiohttp.web_urldispatcher import PlainResource, UrlMappingMatchInfo

_SLASHES = re.compile(r"/{2,}")
_VERSIONS = re.compile(r"(?:/v1(?:alpha|beta)?)+(?=/v1(?:alpha|beta)?/)")
_GOOGLES = re.compile(r"/(?:v1/|v1alpha/)?models/")
_RESPELLED: web.RequestKey[bool] = web.RequestKey("respelled", bool)


class OtherSpellings(PlainResource):
    """Answers for paths that no route has: double and trailing slashes, a missing or doubled version, and HEAD for
    whatever can be read. The request goes on to the route as if it had been spelled right, with its body; a redirect
    would lose that in many clients.
    """

    def __init__(self, router: web.UrlDispatcher) -> None:
        super().__init__("/")  # every path has this one above it: the router asks it last
        self._router = router

    async def resolve(self, request: web.Request) -> tuple[UrlMappingMatchInfo | None, set[str]]:
        """The route that is meant; None, and the methods that would be possible, where there is none."""
        if request.get(_RESPELLED):
            return None, set()
        method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
        allowed: set[str] = set()
        for path in spellings(request.rel_url.raw_path):
            if (path, method) == (request.rel_url.raw_path, request.method):
                continue
            respelled = request.clone(method=method, rel_url=request.rel_url.with_path(path, encoded=True))
            respelled[_RESPELLED] = True
            match = await self._router.resolve(respelled)
            if match.http_exception is None:
                return match, set()
            if isinstance(match.http_exception, web.HTTPMethodNotAllowed):
                allowed |= match.http_exception.allowed_methods
        return None, allowed


def spellings(path: str) -> Iterator[str]:
    """What may be meant by the raw `path`, the likeliest first."""
    plain = _SLASHES.sub("/", path).rstrip("/") or "/"
    if versions := _VERSIONS.match(plain):  # of several, in base URL and path, the last counts
        plain = plain[versions.end() :]
    yield plain
    if models := _GOOGLES.match(plain):
        yield "/v1beta/models/" + plain[models.end() :]
    if not plain.startswith("/v1"):
        yield "/v1" + plain
