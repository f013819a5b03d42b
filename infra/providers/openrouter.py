"""OpenRouter: OpenAI's format; its own fields (`provider` preferences, `models`, `transforms`) pass through."""

from infra.providers.http import ProviderHttp
from infra.providers.openai import OpenAIClient


class OpenRouterClient(OpenAIClient):
    """Adds the attribution headers by which OpenRouter lists applications; both are optional."""

    def __init__(self, http: ProviderHttp, *, site_url: str | None = None, site_name: str | None = None) -> None:
        attribution = {"HTTP-Referer": site_url, "X-Title": site_name}
        super().__init__(http, {name: value for name, value in attribution.items() if value})
