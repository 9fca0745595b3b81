# Builds one member of the workspace and nothing else:
#   docker build --build-arg PACKAGE=quarterjack-worker --tag quarterjack-worker .
# PACKAGE: quarterjack (migrations, and the command quarterjack), quarterjack-scheduler, quarterjack-worker, quarterjack-admin.
ARG PYTHON=3.13

FROM docker.io/library/python:${PYTHON}-slim-bookworm AS build
RUN pip install --no-cache-dir uv==0.13.9
ARG PACKAGE
WORKDIR /src
COPY requirements.lock ./
COPY migrations migrations
COPY shared shared
COPY services services
RUN case "${PACKAGE}" in \
      quarterjack) set -- quarterjack-migrate "./shared[cli]" ;; \
      quarterjack-scheduler|quarterjack-worker|quarterjack-admin) \
        set -- "${PACKAGE}" ./shared "./services/${PACKAGE#quarterjack-}" ;; \
      *) echo "PACKAGE is '${PACKAGE}': see the first lines of the Dockerfile" >&2; exit 2 ;; \
    esac \
    && uv venv /app \
    && ln -s "/app/bin/$1" /app/bin/service \
    && shift \
    && uv pip install --no-cache --no-sources --compile-bytecode \
      --python /app/bin/python --constraint requirements.lock "$@"

FROM docker.io/library/python:${PYTHON}-slim-bookworm
RUN useradd --uid 10001 --no-create-home --shell /usr/sbin/nologin quarterjack
COPY --from=build /app /app
ENV PATH=/app/bin:${PATH} PYTHONUNBUFFERED=1 QUARTERJACK_LOG=json
USER 10001
ENTRYPOINT ["/app/bin/service"]
