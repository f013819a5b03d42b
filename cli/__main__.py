"""`python -m cli`, which the supervisor uses to start each role."""

from cli.main import main

main()
