"""`python -m medgemma_cli` is the same as `medgemma`."""

from medgemma_cli.cli import main

main()
