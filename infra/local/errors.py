"""What can go wrong while starting or running the stack; every message says what to do."""


class StackError(Exception):
    """Base of the errors that `modelpilot up` prints as one message."""


class AlreadyRunning(StackError):
    """Another process holds the data directory."""


class PortTaken(StackError):
    """A fixed port is in use."""


class ToolMissing(StackError):
    """A program that an embedded service needs is not installed."""


class ServiceFailed(StackError):
    """A service did not start, or crashed too often."""
