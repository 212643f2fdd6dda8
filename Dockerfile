# Answer First in a container. Targets: cpu (the default), gpu, ray, loadtest.
#
#   docker build -t answer-first:cpu .
#   docker build -t answer-first:gpu --target gpu .
#   docker build -t answer-first:ray --target ray .
#
# Each image has a Python, one virtual environment without torch, the code that serves, and the embedded default. It runs
# as nobody in particular, writes to /tmp alone, and is ready when /readyz says so. docs/containers.md tells the rest.

FROM python:3.11-slim-bookworm AS python
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1 PATH=/venv/bin:$PATH

FROM python AS requirements
WORKDIR /build
RUN python -m venv /venv
COPY pyproject.toml configs/docker/requirements.py ./

FROM requirements AS cpu-venv
RUN python requirements.py pyproject.toml cpu redis otel > requirements.txt && pip install -r requirements.txt

FROM requirements AS gpu-venv
RUN python requirements.py pyproject.toml gpu redis otel > requirements.txt && pip install -r requirements.txt

FROM requirements AS loadtest-venv
RUN python requirements.py pyproject.toml loadtest > requirements.txt && pip install -r requirements.txt

# Compiled here, since nothing can be written later.
FROM python AS code
WORKDIR /app
COPY relevance relevance
COPY engine engine
COPY service service
RUN python -m compileall -q .
COPY artifacts/default artifacts/default

FROM python AS runtime
WORKDIR /app
ENV PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
COPY --from=code /app /app
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8080/readyz', timeout=3)"]
ENTRYPOINT ["python", "-m", "service"]
CMD ["--host", "0.0.0.0", "--log-format", "json"]

FROM runtime AS gpu
COPY --from=gpu-venv /venv /venv

# A node of a Ray cluster: KubeRay says what it starts. Ray's own image, since KubeRay's probes rely on what is in it.
FROM rayproject/ray:2.60.0-py311-cpu AS ray
WORKDIR /app
COPY --from=cpu-venv /build/requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir -r /tmp/requirements.txt
COPY --from=code /app /app
COPY scale scale
ENV PYTHONPATH=/app PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1 \
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=scale.serving.edge.middlewares \
    RAY_SERVE_SESSION_ID_HEADER_KEY=x-query-affinity \
    RAY_SERVE_REPLICA_AUTOSCALING_METRIC_PUSH_INTERVAL_S=2 \
    RAY_SERVE_HANDLE_AUTOSCALING_METRIC_PUSH_INTERVAL_S=2 \
    RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD=0 \
    RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S=30 \
    RAY_worker_niceness=0 \
    RAY_USAGE_STATS_ENABLED=0
USER 1000:100
EXPOSE 8080

FROM python AS loadtest
WORKDIR /app
ENV PYTHONDONTWRITEBYTECODE=1 MPLCONFIGDIR=/tmp
COPY --from=loadtest-venv /venv /venv
COPY loadtest loadtest
RUN mkdir /reports && chown 10001:10001 /reports
USER 10001:10001
ENTRYPOINT ["python", "-m", "loadtest"]
CMD ["loadtest/plans/knee.toml", "--url", "http://answer-first:8080", "--json", "/reports/knee.json", "--report", "/reports/knee.html"]

FROM runtime AS cpu
COPY --from=cpu-venv /venv /venv
