# syntax=docker/dockerfile:1
# medgemma on a CUDA base, as a user without rights. Weights are mounted at run time, or fetched at
# build time with a build secret; a token never stands in an ARG, an ENV or a layer.
FROM nvidia/cuda:12.8.1-base-ubuntu24.04

ENV DEBIAN_FRONTEND=noninteractive \
    PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    VIRTUAL_ENV=/opt/medgemma \
    PATH=/opt/medgemma/bin:$PATH

SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# Security fixes of the distribution are wanted: its packages are not pinned, Python's are.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv "$VIRTUAL_ENV" \
    && useradd --create-home --no-log-init --uid 10001 --shell /usr/sbin/nologin medgemma

WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE CHANGELOG.md ./
COPY medgemma_cli ./medgemma_cli
COPY prompts ./prompts
ARG EXTRAS=dicom,office,serve,tables
RUN pip install --constraint constraints.txt ".[${EXTRAS}]"

ENV HF_HOME=/models/huggingface \
    MEDGEMMA_CACHE=/home/medgemma/.cache/medgemma
RUN install -d -o medgemma -g medgemma -m 0700 /models /models/huggingface /work
USER 10001
WORKDIR /work

# Empty: nothing is fetched, and the weights are mounted. With a model's name, and
# --secret id=hf_token,src=FILE, they become a layer of the image: keep such an image private.
ARG WEIGHTS=
RUN --mount=type=secret,id=hf_token,uid=10001,mode=0400 \
    if [ -n "$WEIGHTS" ]; then \
        HF_TOKEN="$(cat /run/secrets/hf_token)" hf download "$WEIGHTS"; \
    fi

# From here on nothing is fetched, not even asked for.
ENV HF_HUB_OFFLINE=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10m \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["medgemma"]
CMD ["--help"]
