# A place to develop in: Python, make and git on Alpine, as a user with the host user's id, so that files in the
# mounted project stay theirs. Build it with `docker compose build --build-arg userid=$(id -u) dev`.
FROM python:3.13-alpine3.23
# Alpine drops a package's old version from its index when a new one comes, so a pinned one would soon fail to install.
# hadolint ignore=DL3018
RUN apk add --no-cache bash curl git make
ARG userid=1000
# The volume that docker-compose.yaml mounts at .venv takes its owner from here.
RUN adduser -D -u "${userid}" devo \
    && install -d -o devo /project /project/.venv
USER ${userid}
WORKDIR /project
CMD ["sh"]
