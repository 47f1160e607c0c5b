"""What the functions declare to the host."""

from __future__ import annotations

from typing import Any

import azure.functions as func
import pytest

from pipeline.functions import build_blueprint
from pipeline.settings import load


def _queue_triggers() -> dict[str, dict[str, Any]]:
    app = func.FunctionApp()
    app.register_functions(build_blueprint(load({"REST_BASE_URL": "https://rest.example"})))
    bindings = {str(each.get_function_name()): each.get_dict_repr()["bindings"] for each in app.get_functions()}
    return {name: each[0] for name, each in bindings.items() if each[0]["type"] == "serviceBusTrigger"}


@pytest.mark.parametrize("name", sorted(_queue_triggers()))
def test_every_queue_trigger_takes_its_body_as_bytes(name: str) -> None:
    """Without the data type the extension decodes the body as text: a compressed data message arrives destroyed."""
    trigger = _queue_triggers()[name]

    assert str(getattr(trigger["dataType"], "name", trigger["dataType"])).lower() == "binary"
