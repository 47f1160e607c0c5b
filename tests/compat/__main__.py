"""
Install other clients into throw-away environments and run the same steps with each.

`make compat`; ends with 1 when any client fails. What is installed stays under
.local/compat, so that the second run needs no network.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from infra.local.servicebus import Running, load_config, running

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".local" / "compat"
STEPS = Path(__file__).parent
PYTHON_CLIENT = "azure-servicebus==7.14.3"
NODE_CLIENT = "@azure/service-bus@7.9.5"
_INSTALL_SECONDS = 600
_STEPS_SECONDS = 300

CONFIG = {
    "UserConfig": {
        "Namespaces": [
            {
                "Name": "sbemulatorns",
                "Queues": [
                    {"Name": "main", "Properties": {"MaxDeliveryCount": 3}},
                    {"Name": "short", "Properties": {"LockDuration": "PT2S"}},
                    {"Name": "once", "Properties": {"RequiresDuplicateDetection": True}},
                    {"Name": "sink", "Properties": {}},
                ],
                "Topics": [
                    {
                        "Name": "news",
                        "Properties": {},
                        "Subscriptions": [
                            {"Name": "first", "Properties": {}},
                            {"Name": "forwarded", "Properties": {"ForwardTo": "sink"}},
                        ],
                    }
                ],
            }
        ],
        "Logging": {"Type": "Console"},
    }
}


def main() -> int:
    clients = {PYTHON_CLIENT: _python(), NODE_CLIENT: _node()}
    failed = [name for name, (command, folder) in clients.items() if not asyncio.run(_passes(command, folder))]
    # The installed version runs the same steps, so that a difference is the version's.
    if not asyncio.run(_passes([sys.executable, str(STEPS / "steps.py")], ROOT)):
        failed.append("the installed azure-servicebus")
    print(f"failed: {', '.join(failed)}" if failed else "every client passed")
    return 1 if failed else 0


def _python() -> tuple[list[str], Path]:
    folder = FOLDER / "python"
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        venv.create(folder, with_pip=True, clear=True)
        _install([str(python), "-m", "pip", "install", "--quiet", PYTHON_CLIENT, "aiohttp"], folder)
    return [str(python), str(STEPS / "steps.py")], folder


def _node() -> tuple[list[str], Path]:
    folder = FOLDER / "node"
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "installed").exists():
        (folder / "package.json").write_text(json.dumps({"name": "compat", "private": True}))
        _install(["npm", "install", "--silent", "--no-audit", "--no-fund", NODE_CLIENT], folder)
    return ["node", str(STEPS / "steps.mjs")], folder


def _install(command: list[str], folder: Path) -> None:
    print(f"installing into {folder.relative_to(ROOT)}", flush=True)
    subprocess.run(command, cwd=folder, check=True, timeout=_INSTALL_SECONDS)
    (folder / "installed").touch()


async def _passes(command: list[str], folder: Path) -> bool:
    """Run one client's steps against an emulator of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "Config.json"
        path.write_text(json.dumps(CONFIG))
        async with running(load_config(path, relaxed=True)) as server:
            return await _run([*command, server.connection_string], folder, server)


async def _run(command: list[str], folder: Path, server: Running) -> bool:
    process = await asyncio.create_subprocess_exec(*command, cwd=folder)
    try:
        return await asyncio.wait_for(process.wait(), _STEPS_SECONDS) == 0
    except TimeoutError:
        process.kill()
        await process.wait()
        print(f"no end within {_STEPS_SECONDS} s; {len(server.broker.connections)} connections open", flush=True)
        return False


if __name__ == "__main__":
    sys.exit(main())
