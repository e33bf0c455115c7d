"""Where the declarations of the project stand: schemas, SQL, pipelines.

In a source tree they are folders beside the package; in an installed wheel they are inside it.
"""

from __future__ import annotations

from pathlib import Path

from skylake.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parent


def folder(name: str) -> Path:
    """Return the folder of declarations called `name`.

    Parameters
    ----------
    name : {'schemas', 'sql', 'pipelines'}
        Which declarations.

    Raises
    ------
    ConfigurationError
        If the installation lacks the folder.
    """
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise ConfigurationError(
        f"the folder {name!r} of skylake is missing beside {_PACKAGE}; reinstall skylake"
    )
