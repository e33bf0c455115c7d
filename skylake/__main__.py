"""``python -m skylake`` is ``skylake``."""

from skylake.cli.main import main

if __name__ == "__main__":
    main()
