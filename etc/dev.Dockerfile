# A place to develop in: Python, make and git on Debian, as a user with the host user's id, so that files in the
# mounted project stay theirs. Build it with `docker compose build --build-arg userid=$(id -u) dev`.
FROM python:3.13-slim-trixie
# Debian drops a package's old version from its index when a new one comes, so a pinned one would soon fail to install.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends curl git make openssl \
    && rm -rf /var/lib/apt/lists/*
ARG userid=1000
# The volumes that docker-compose.yaml mounts in the project take their owner from here.
RUN useradd --non-unique --uid "${userid}" --create-home devo \
    && install --directory --owner="${userid}" /project /project/.peers /project/.venv /project/dist
USER ${userid}
WORKDIR /project
CMD ["bash"]
