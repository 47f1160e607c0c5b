# The simulators: the local stack's code and the one library that they import, nothing of the app's.
FROM python:3.13-slim
WORKDIR /app
COPY requirements.txt ./
RUN grep '^orjson==' requirements.txt > simulators.txt && pip install --no-cache-dir -r simulators.txt
COPY infra/__init__.py infra/__init__.py
COPY infra/local infra/local
# A fresh volume takes the owner of the folder that it covers.
RUN useradd --system simulator && install -d -o simulator /state
USER simulator
ENTRYPOINT ["python"]
