# The image that runs Stator: one .pyz on Alpine's Python, unpacked beforehand so that it starts quickly and writes
# nothing. Build it with `docker compose build stator`.
ARG python=3.13-alpine3.23

FROM python:${python} AS build
# Alpine drops a package's old version from its index when a new one comes, so a pinned one would soon fail to install.
# hadolint ignore=DL3018
RUN apk add --no-cache git make
WORKDIR /project
COPY . .
RUN --mount=type=cache,target=/root/.cache make pyz

FROM python:${python}
LABEL org.opencontainers.image.title="Stator" \
      org.opencontainers.image.description="Makes a service observable: discovery, /monitor, /metrics and logs"
ENV SHIV_ROOT=/var/lib/stator
COPY --from=build /project/dist/stator.pyz /stator.pyz
# Unpacked and compiled by root: the service has no need to write, and no right to change its own code. Its user is
# a number, since that is what those who insist on "not root" can check.
RUN python3 /stator.pyz --check \
    && adduser -D -H -u 10001 stator
USER 10001
EXPOSE 8087
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["sh", "-c", "wget -q -O /dev/null http://${STTR_SERVER_HOST:-127.0.0.1}:${STTR_SERVER_PORT:-8087}/monitor"]
ENTRYPOINT ["python3", "/stator.pyz"]
