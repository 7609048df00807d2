# The image that runs Stator: one .pyz on Debian's Python, unpacked beforehand so that it starts quickly and writes
# nothing. Build it with `docker compose build stator`.
ARG python=3.13-slim-trixie

FROM python:${python} AS build
# Debian drops a package's old version from its index when a new one comes, so a pinned one would soon fail to install.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /project
# What builds the .pyz changes seldom, and stays built as long as it doesn't.
COPY Makefile ./
COPY build/tools.lock build/
RUN --mount=type=cache,target=/root/.cache make .venv/.tools
COPY . .
RUN --mount=type=cache,target=/root/.cache make pyz

FROM python:${python}
LABEL org.opencontainers.image.title="Stator" \
      org.opencontainers.image.version="1.0.0" \
      org.opencontainers.image.description="Makes a service observable: discovery, /monitor, /metrics and logs"
ENV SHIV_ROOT=/var/lib/stator
COPY --from=build /project/dist/stator.pyz /stator.pyz
COPY etc/healthcheck.py /healthcheck.py
# Unpacked and compiled by root: the service has no need to write, and no right to change its own code. Its user is
# a number, since that is what those who insist on "not root" can check.
RUN python3 /stator.pyz --check \
    && useradd --uid 10001 --no-create-home --home-dir / --shell /usr/sbin/nologin stator
USER 10001
EXPOSE 8087
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["python3", "/healthcheck.py"]
ENTRYPOINT ["python3", "/stator.pyz"]
