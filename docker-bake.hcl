# Every model of the catalogue as an image for CPUs and one for GPUs.
#
#   docker buildx bake gpu-turbo                          one image
#   docker buildx bake --print image                      what there is to build
#   IMAGE=you/sotto VERSION=1.2.3 docker buildx bake --push gpu-turbo
#
# HF_TOKEN in the environment opens the hub's gated models. PIP_CONF and CA_BUNDLE name files for
# builds behind a private package index or certificate authority.

variable "IMAGE" {
  default = "sotto"
}

variable "VERSION" {
  default = "unreleased"
}

variable "REVISION" {
  default = "unknown"
}

variable "BASE_IMAGE" {
  default = "debian:bookworm-slim"
}

variable "PIP_CONF" {
  default = ""
}

variable "CA_BUNDLE" {
  default = ""
}

# A kind of cache that BuildKit knows, such as "gha"; empty: only what the builder itself keeps.
variable "CACHE" {
  default = ""
}

group "default" {
  targets = ["gpu-base"]
}

target "image" {
  name = "${device}-${replace(model, ".", "-")}"
  matrix = {
    device = ["cpu", "gpu"]
    model = [
      "tiny",
      "tiny.en",
      "base",
      "base.en",
      "small",
      "small.en",
      "medium",
      "medium.en",
      "large-v2",
      "large-v3",
      "turbo",
      "distil-large-v3",
    ]
  }
  context   = "."
  target    = device
  platforms = ["linux/amd64"]
  tags      = ["${IMAGE}:${VERSION}-${model}${equal(device, "cpu") ? "-cpu" : ""}"]
  args = {
    BASE_IMAGE    = BASE_IMAGE
    MODEL         = model
    MODEL_LICENCE = "MIT"
    VERSION       = VERSION
    REVISION      = REVISION
  }
  secret = concat(
    ["id=HF_TOKEN,env=HF_TOKEN"],
    equal(PIP_CONF, "") ? [] : ["id=pip_conf,src=${PIP_CONF}"],
    equal(CA_BUNDLE, "") ? [] : ["id=ca_bundle,src=${CA_BUNDLE}"],
  )
  cache-from = equal(CACHE, "") ? [] : ["type=${CACHE},scope=${device}"]
  cache-to   = equal(CACHE, "") ? [] : ["type=${CACHE},scope=${device},mode=max"]
}
