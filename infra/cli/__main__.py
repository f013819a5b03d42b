"""`python -m infra.cli`, which the supervisor uses to start each role."""

from infra.cli.main import main

main()
