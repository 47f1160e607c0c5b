"""No secret in the repository: keys of Service Bus and storage, passwords of SQL, tokens of the API, private keys."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

RULES = {
    "Service Bus key": r"SharedAccessKey=(?!SAS_KEY_VALUE)[A-Za-z0-9+/]{40,}=*",
    "storage key": r"AccountKey=(?!Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6)[A-Za-z0-9+/]{40,}=*",
    "SQL password": r"(?i)(PWD|Password)=(?!\$|\{|%|<|\*)[^\s;\"'&]{8,}",
    "password in a URL": r"(?i)(mssql|postgres|mysql|redis|amqp)[a-z+]*://[^\s:/@\"'{]+:(?!\$|\{|\*)[^\s@/\"'{]{12,}@",
    "API token": r"\bEAA[A-Za-z0-9]{40,}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "cloud key": r"\bAKIA[0-9A-Z]{16}\b",
}
"""The emulators' public keys are exempt: SAS_KEY_VALUE, and Azurite's well-known account key."""


def _found(text: str) -> list[str]:
    return [name for name, rule in RULES.items() if re.search(rule, text)]


def _tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, timeout=60, check=False).stdout
    return [ROOT / name for name in listed.decode().split("\0") if name]


def test_no_file_of_the_repository_holds_a_secret() -> None:
    """What was pushed once is public for ever."""
    files = _tracked()
    if not files:
        pytest.skip("not a git repository")
    mine = (Path(__file__), Path(__file__).with_name("test_redaction.py"))  # they hold examples of what is refused
    texts = {path: path.read_text(errors="ignore") for path in files if path.is_file() and path not in mine}

    assert [(str(path.relative_to(ROOT)), found) for path, text in texts.items() if (found := _found(text))] == []


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Service Bus key", "SharedAccessKey=" + "a" * 43 + "="),
        ("storage key", "AccountKey=" + "a" * 86 + "=="),
        ("SQL password", "Server=x;Password=Sw0rdfish!;"),
        ("password in a URL", "mssql+pyodbc://sa:Sw0rdfish-2024@host/db"),
        ("API token", "EAA" + "B" * 60),
        ("private key", "-----BEGIN RSA PRIVATE KEY-----"),
    ],
)
def test_each_rule_sees_its_secret(name: str, text: str) -> None:
    """A rule that finds nothing may be looking at nothing."""
    assert name in _found(text)
