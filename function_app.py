"""What the Functions host loads: one app with a blueprint generated from the feeds."""

import azure.functions as func

from pipeline.functions import build_blueprint

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
app.register_functions(build_blueprint())
