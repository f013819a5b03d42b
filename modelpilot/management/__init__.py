"""What people administer: routers, models, providers, keys, and the users of the site."""
