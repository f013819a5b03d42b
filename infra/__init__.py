"""The real world: settings, stores, provider clients, Temporal, crypto, the one-machine stack and the command line."""
