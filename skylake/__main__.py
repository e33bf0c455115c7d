"""``python -P -m skylake`` is ``skylake``.

Without ``-P`` Python looks for modules in the current folder first, before any line of skylake runs.
"""

from skylake.cli.main import main

if __name__ == "__main__":
    main()
