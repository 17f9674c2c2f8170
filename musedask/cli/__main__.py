"""``python -m musedask.cli`` is the command ``musedask``."""

from __future__ import annotations

from musedask.cli import main

if __name__ == "__main__":
    main()
