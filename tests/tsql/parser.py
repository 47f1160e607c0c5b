"""Microsoft's T-SQL parser, spoken to over the Language Server Protocol on stdin and stdout."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

START_SECONDS = 60
ANSWER_SECONDS = 120


class Fault(NamedTuple):
    """What the parser says about a script; `line` counts from 0."""

    line: int
    text: str


class Parser:
    """One running parser. It checks syntax only: no table, column or type is known to it."""

    def __init__(self, program: Path, openssl: Path) -> None:
        environment = {
            **os.environ,
            "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",
            "LD_LIBRARY_PATH": f"{openssl}:{os.environ.get('LD_LIBRARY_PATH', '')}",
        }
        self._process = subprocess.Popen(
            [str(program), "--log-file", os.devnull],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
        )
        self._incoming: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()
        self._scripts = 0
        self._ask({"id": 1, "method": "initialize", "params": {"processId": os.getpid(), "capabilities": {}}})
        self._await(lambda message: message.get("id") in (1, "1"), START_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(timeout=10)

    def faults(self, script: str) -> list[Fault]:
        """Parse a script; batches are set apart by lines `GO`."""
        self._scripts += 1
        uri = f"file:///script{self._scripts}.sql"
        document = {"uri": uri, "languageId": "sql", "version": 1, "text": script}
        self._ask({"method": "textDocument/didOpen", "params": {"textDocument": document}})
        answer = self._await(
            lambda message: (
                message.get("method") == "textDocument/publishDiagnostics" and message["params"]["uri"] == uri
            ),
            ANSWER_SECONDS,
        )
        return [Fault(one["range"]["start"]["line"], one["message"]) for one in answer["params"]["diagnostics"]]

    def _ask(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self._process.stdin.flush()

    def _await(self, wanted: Any, seconds: float) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            try:
                message = self._incoming.get(timeout=left)
            except queue.Empty:
                break
            if wanted(message):
                return message
        raise TimeoutError(f"the parser did not answer within {seconds} s")

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None
        while line := stdout.readline():
            length = 0
            while line.strip():
                name, _, value = line.partition(b":")
                if name.lower() == b"content-length":
                    length = int(value)
                line = stdout.readline()
            self._incoming.put(json.loads(stdout.read(length)))
