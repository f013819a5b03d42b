"""One module per group of routes; each exports `routes()`, its `RouteSpec` list."""
