"""`modelpilot gateway`: the HTTP API and the routing worker, in the foreground."""


def command() -> None:
    """Serve the HTTP API until SIGINT or SIGTERM; then finish what is in flight."""
    from api.__main__ import main
    from infra.logs import configure_logging
    from infra.settings import load_settings

    settings = load_settings()
    configure_logging(settings.log_level)
    main(settings)
