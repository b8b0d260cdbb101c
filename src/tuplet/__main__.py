"""`python -m tuplet`, which is also what `torchrun -m tuplet` starts."""

from tuplet.app.cli import main

main()
