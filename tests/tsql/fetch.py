"""
Fetch Microsoft's T-SQL parser into `.local/tsql`: it comes inside the wheel of mssql-cli, as a program that speaks the
Language Server Protocol. It needs OpenSSL 1.1, which the wheel of an old psycopg2-binary carries.
"""

from __future__ import annotations

import platform
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / ".local" / "tsql"
DOWNLOAD_SECONDS = 300
_PARSER = ("mssql-cli==1.0.0", "py2.py3", "manylinux1_x86_64")
_OPENSSL = ("psycopg2-binary==2.9.5", "cp311", "manylinux2014_x86_64")
_PROGRAM = "mssqlcli/mssqltoolsservice/bin/MicrosoftSqlToolsServiceLayer"


class Missing(Exception):
    """What the test needs cannot be had on this machine; the text says what and why."""


def parser_program() -> Path:
    """Give the parser's program, downloaded once; raises Missing."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise Missing("Microsoft's parser is fetched as a Linux x86-64 program")
    program = FOLDER / "parser" / _PROGRAM
    if not program.exists():
        _unpack(*_PARSER, into=FOLDER / "parser")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


def openssl_folder() -> Path:
    """Give a folder with OpenSSL 1.1 under the names that .NET looks for; raises Missing."""
    libraries = FOLDER / "openssl" / "psycopg2_binary.libs"
    if not libraries.exists():
        _unpack(*_OPENSSL, into=FOLDER / "openssl")
    for name in ("libssl", "libcrypto"):
        link = libraries / f"{name}.so.1.1"
        if not link.exists():
            link.symlink_to(next(libraries.glob(f"{name}-*.so.1.1")).name)
    return libraries


def driver_library() -> Path:
    """Give Microsoft's ODBC driver for SQL Server, out of the wheel of mssql-python-odbc; raises Missing."""
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise Missing("Microsoft's ODBC driver is fetched as a Linux x86-64 library")
    folder = FOLDER / "driver"
    if not folder.exists():
        _unpack("mssql-python-odbc==18.6.2.2", "py3", "manylinux_2_28_x86_64", into=folder)
    found = sorted(folder.rglob("libmsodbcsql-18*.so*"))
    matching = [path for path in found if "debian" in str(path) and "x86_64" in str(path)] or found
    if not matching:
        raise Missing("the wheel of mssql-python-odbc has no libmsodbcsql-18")
    return matching[0]


def _unpack(requirement: str, python_tag: str, platform_tag: str, *, into: Path) -> None:
    """Download one wheel with pip and unpack it."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    version = python_tag.removeprefix("cp") if python_tag.startswith("cp") else "3.13"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--python-version", version, "--platform", platform_tag]
    if python_tag.startswith("cp"):
        command += ["--implementation", "cp"]
    command += ["--dest", str(FOLDER), requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise Missing(f"{requirement} could not be fetched in {DOWNLOAD_SECONDS} s") from error
    if done.returncode:
        raise Missing(f"{requirement} could not be fetched: {done.stderr.strip().splitlines()[-1:]}")
    stem = requirement.split("==")[0].replace("-", "_")
    wheel = next(FOLDER.glob(f"{stem}-*.whl"))
    unpacked = into.with_name(into.name + ".part")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    unpacked.rename(into)
    wheel.unlink()
