"""The command line `modelpilot`: one module per command, imported only when that command is used."""
