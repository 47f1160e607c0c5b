# The simulators: the local stack's code and the one library that they import, nothing of the app's.
FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt ./
RUN grep '^orjson==' requirements.txt > simulators.txt && pip install --no-cache-dir -r simulators.txt
COPY infra/__init__.py infra/__init__.py
COPY infra/local infra/local
RUN useradd --system simulator
USER simulator
ENTRYPOINT ["python"]
