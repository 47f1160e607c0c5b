"""HTTP functions through the real worker code."""

import json

import pytest

from tests.contract.host.running import running, write_app

APP = """
@app.route(route="echo/{name}/{number:int?}", methods=["GET", "POST"])
async def echo(req: func.HttpRequest) -> func.HttpResponse:
    seen = dict(method=req.method, url=req.url, headers=dict(req.headers), params=dict(req.params),
                route=dict(req.route_params), body=req.get_body().decode())
    return func.HttpResponse(json.dumps(seen), mimetype="application/json")

@app.route(route="sync")
def sync(req):
    return "plain text"

@app.route(route="cookies")
async def cookies(req: func.HttpRequest):
    answer = func.HttpResponse(status_code=201, headers={"X-Kind": "test"})
    answer.headers.add("Set-Cookie", "a=1; Path=/")
    answer.headers.add("Set-Cookie", "b=2; HttpOnly")
    return answer

@app.route(route="out", binding_arg_name="answer")
async def out(req: func.HttpRequest, answer: func.Out[func.HttpResponse]):
    answer.set(func.HttpResponse("set", status_code=202))

@app.route(route="broken")
async def broken(req: func.HttpRequest):
    raise RuntimeError("a bug of the app")

@app.route(route="nothing")
async def nothing(req: func.HttpRequest):
    return None

@app.route(route="slow")
async def slow(req: func.HttpRequest):
    await asyncio.sleep(2)
    note(slow="ended")
    return "late"

@app.route(route="trace")
async def trace(req: func.HttpRequest, context: func.Context):
    return json.dumps(dict(parent=context.trace_context.trace_parent, id=context.invocation_id,
                           name=context.function_name))

@app.route(route="guarded", auth_level="function")
async def guarded(req: func.HttpRequest):
    return "in"

@app.route(route="size", methods=["POST"])
async def size(req: func.HttpRequest):
    return str(len(req.get_body()))

bp = func.Blueprint()

@bp.generic_trigger(arg_name="req", type="httpTrigger", route="generic", authLevel="anonymous")
@bp.generic_output_binding(arg_name="$return", type="http")
async def generic(req: func.HttpRequest):
    return func.HttpResponse("from a blueprint")

app.register_functions(bp)
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    app = write_app(tmp_path_factory.mktemp("http") / "app", APP)
    with running(app, "--answer-limit", "1") as host:
        yield host


def test_a_request_arrives_as_in_azure(host):
    """Names of headers in lower case, empty query values gone, repeats joined: apps depend on each."""
    seen = host.call("/api/echo/Ann/7?a=1&a=2&empty=", "POST", b"body", X_Custom="Yes").json()

    assert seen["method"] == "POST"
    assert seen["url"] == f"{host.address}/api/echo/Ann/7?a=1&a=2&empty="
    assert seen["headers"]["x-custom"] == "Yes"
    assert seen["params"] == {"a": "1,2"}
    assert seen["route"] == {"name": "Ann", "number": "7"}
    assert seen["body"] == "body"


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/api/sync", 200, b"plain text"),
        ("/api/out", 202, b"set"),
        ("/api/broken", 500, b""),
        ("/api/nothing", 500, b""),
        ("/api/generic", 200, b"from a blueprint"),
        ("/api/missing", 404, b""),
        ("/api/guarded", 200, b"in"),
    ],
)
def test_each_way_to_answer(host, path, status, body):
    """Returned text, an Out, a failure, an answer of None (which production cannot encode), a blueprint."""
    answer = host.call(path)

    assert (answer.status, answer.body) == (status, body)


def test_a_method_outside_the_list_is_not_found(host):
    """Azure answers 404 here, and so do tests that were written against Azure."""
    assert host.call("/api/echo/Ann", "DELETE").status == 404


def test_headers_and_cookies_are_passed_on(host):
    """Two cookies are two headers; joining them with a comma breaks both."""
    answer = host.call("/api/cookies")

    assert (answer.status, answer.headers["X-Kind"]) == (201, "test")
    assert len(answer.headers.get_all("Set-Cookie")) == 2


def test_a_large_body_arrives_whole(host):
    """The worker's channel carries many frames' worth."""
    assert host.call("/api/size", "POST", b"x" * 20_000_000).body == b"20000000"


def test_the_trace_of_the_caller_is_continued(host):
    """Same trace, new span: that is what joins a request to the work it starts."""
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    seen = host.call("/api/trace", traceparent=parent).json()

    assert seen["parent"].split("-")[1] == parent.split("-")[1]
    assert seen["parent"].split("-")[2] != parent.split("-")[2]
    assert seen["name"] == "trace"


def test_an_answer_that_takes_too_long_is_given_up_while_the_function_runs_on(host):
    """Azure's front end answers after 230 s whatever the function does; here the limit is one second."""
    answer = host.call("/api/slow")

    assert answer.status == 504
    assert host.until_noted(1) == [{"slow": "ended"}]


def test_a_failure_is_logged_with_its_traceback(host):
    """The answer is an empty 500; the reason has to be on the console."""
    host.call("/api/broken")

    host.until_said("RuntimeError('a bug of the app')")
    host.until_said('raise RuntimeError("a bug of the app")')


def test_the_status_of_the_host_is_told(host):
    """Scripts wait for 'Running' before they send work."""
    status = host.status()

    assert status["state"] == "Running"
    assert len(status["workers"]) == 1


def test_the_functions_are_listed(host):
    """The list of the portal, for scripts."""
    listed = {each["name"]: each for each in host.call("/admin/functions").json()}

    assert listed["guarded"]["trigger"] == "httpTrigger"
    assert host.call("/admin/functions/none", "POST").status == 404


def test_keys_are_enforced_on_demand(tmp_path):
    """At a desk keys are in the way; before a deployment one wants to see who is let in."""
    app = write_app(tmp_path / "app", APP)
    with running(app, "--enforce-keys") as host:
        (path,) = tmp_path.glob("state/*/keys.json")
        keys = json.loads(path.read_text())

        assert host.call("/api/guarded").status == 401
        assert host.call("/api/guarded", x_functions_key=keys["function"]).status == 200
        assert host.call(f"/api/guarded?code={keys['master']}").status == 200
        assert host.call("/api/sync").status == 200
        assert host.call("/admin/host/status", x_functions_key=keys["function"]).status == 401
        assert host.call("/admin/host/status", x_functions_key=keys["master"]).status == 200
        assert path.stat().st_mode & 0o077 == 0


def test_a_request_in_flight_is_answered_before_the_host_stops(tmp_path):
    """A stop drains: what was accepted is finished."""
    import threading

    app = write_app(tmp_path / "app", APP)
    answers = []
    with running(app) as host:
        caller = threading.Thread(target=lambda: answers.append(host.call("/api/slow")))
        caller.start()
        while host.status()["running"] == 0:
            pass

        code = host.stop()
        caller.join()

        assert code == 0
        assert answers[0].body == b"late"


@pytest.mark.parametrize(("kind", "framework"), [("Asgi", "async"), ("Wsgi", "sync")])
def test_a_web_framework_runs_behind_one_function(tmp_path, kind, framework):
    """FastAPI and Flask apps come as AsgiFunctionApp and WsgiFunctionApp."""
    app = write_app(tmp_path / "app", FRAMEWORK, host_json={"extensions": {"http": {"routePrefix": ""}}})
    (app / "function_app.py").write_text(
        FRAMEWORK + f"app = func.{kind}FunctionApp({framework}_app, func.AuthLevel.ANONYMOUS)\n"
    )
    with running(app) as host:
        answer = host.call("/hello/world?x=1")

        assert (answer.status, answer.body) == (200, b"/hello/world x=1")


FRAMEWORK = """
import azure.functions as func

async def async_app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        return
    body = f"{scope['path']} {scope['query_string'].decode()}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": body})

def sync_app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['PATH_INFO']} {environ['QUERY_STRING']}".encode()]

"""
