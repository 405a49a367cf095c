# SPDX-License-Identifier: Apache-2.0
#
# Two images. The one for clusters, which is the default: the agent, a static binary
# that holds the gadgets; a bundle with the types of kernels that carry none
# themselves; and the controller, so that both always have the same version. With
# --target btfgen that of the BTF service.
#
# Builds with BuildKit and with buildah 1.28: no heredocs. hack/image.sh, which
# `make image` calls, passes the arguments; see there.
ARG GOLANG=golang:1.26-bookworm
ARG BASE=scratch
# Where the build runs, such as linux/amd64. Older buildah doesn't know by itself.
ARG NATIVE=$BUILDPLATFORM

# The archive to make the bundle of. `--build-context btfhub=DIR` takes the place
# of this empty stage; without it the archive is cloned.
FROM scratch AS btfhub

# All that runs during the build runs on the building machine's architecture, so
# nothing needs emulation: clang and Go compile for the image's.
FROM --platform=$NATIVE ${GOLANG} AS source
WORKDIR /src
ENV CGO_ENABLED=0 GOOS=linux GOMODCACHE=/root/go/pkg/mod
# "source" compiles the gadgets, "committed" takes the objects that are in git:
# the same bytes, without having to install clang.
ARG GADGETS=source
COPY hack/deps.sh hack/versions.env hack/
RUN [ "$GADGETS" = committed ] || hack/deps.sh build
COPY . .
RUN [ "$GADGETS" = committed ] || { rm gadgets/*/*.o && make -j "$(nproc)" compile; }

FROM source AS builder
ARG TARGETARCH
ARG VERSION=devel
# Only where modules come from; no image keeps it.
ARG GOPROXY=""
RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/root/go/pkg/mod \
	GOARCH="$TARGETARCH" go build -trimpath -buildvcs=false \
	-ldflags "-s -w -buildid= -X nodegadget.dev/pkg/version.Version=$VERSION" \
	-o /out/ ./cmd/gadget-agent ./cmd/gadget-controller
# To ask a BTF service over https.
RUN certs=/etc/ssl/certs/ca-certificates.crt; \
	[ ! -e "$certs" ] || install -D -m 644 "$certs" "/out$certs"
# Same commit, same times, same layer.
ARG SOURCE_DATE_EPOCH=0
RUN find /out -exec touch -d "@$SOURCE_DATE_EPOCH" {} +

FROM source AS bundle
ARG TARGETARCH
ARG GOPROXY=""
# false leaves the bundle out. The agent then needs a kernel with its own types, a
# BTF service, or a bundle that is mounted.
ARG ENABLE_BTFGEN=true
# What is cloned, where no build context has the archive. A commit instead of a
# branch makes the image reproducible.
ARG BTFHUB_URL=https://github.com/aquasecurity/btfhub-archive
ARG BTFHUB_REF=main
# More arguments of `btfgen build`, such as --strict or --distro ubuntu.
ARG BTFGEN_ARGS=""
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/root/go/pkg/mod \
	--mount=type=cache,target=/root/.cache/btfgen --mount=type=bind,from=btfhub,target=/btfhub \
	mkdir -p /out/usr/share/nodegadget && \
	{ [ "$ENABLE_BTFGEN" != true ] || hack/image-bundle.sh "$TARGETARCH" /btfhub /out/usr/share/nodegadget/btf.bundle; } && \
	find /out -exec touch -d "@$SOURCE_DATE_EPOCH" {} +

FROM source AS btfgen-builder
ARG TARGETARCH
ARG VERSION=devel
ARG GOPROXY=""
ARG SOURCE_DATE_EPOCH=0
RUN --mount=type=cache,target=/root/.cache/go-build --mount=type=cache,target=/root/go/pkg/mod \
	GOARCH="$TARGETARCH" go build -trimpath -buildvcs=false \
	-ldflags "-s -w -buildid= -X nodegadget.dev/pkg/version.Version=$VERSION" \
	-o /out/btfgen ./cmd/btfgen && \
	touch -d "@$SOURCE_DATE_EPOCH" /out/btfgen

# The BTF service: `btfgen serve` for the archive that is mounted at /btfhub. It
# only reads files and listens above port 1023, so it needs no privilege at all.
FROM scratch AS btfgen
ARG VERSION=devel
ARG REVISION=""
LABEL org.opencontainers.image.title="btfgen" \
	org.opencontainers.image.description="Makes and serves BTF for kernels that ship none" \
	org.opencontainers.image.licenses="Apache-2.0" \
	org.opencontainers.image.version="$VERSION" \
	org.opencontainers.image.revision="$REVISION"
COPY --from=btfgen-builder /out/ /
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/btfgen"]
CMD ["serve", "--archive", "/btfhub"]

FROM ${BASE} AS agent
ARG VERSION=devel
ARG REVISION=""
LABEL org.opencontainers.image.title="gadget-agent" \
	org.opencontainers.image.description="Traces a Kubernetes node with eBPF, also where the kernel ships no BTF" \
	org.opencontainers.image.licenses="Apache-2.0 AND GPL-2.0-only" \
	org.opencontainers.image.version="$VERSION" \
	org.opencontainers.image.revision="$REVISION"
COPY --from=builder /out/ /
COPY --from=bundle /out/ /
# Root, because loading eBPF programs and reading other processes needs
# capabilities that Kubernetes can't give to another user: it sets no ambient
# ones. What the agent may do is cut down by the pod's list of capabilities. The
# controller needs none, and its pod has another user.
USER 0:0
ENTRYPOINT ["/gadget-agent"]
# Types are looked for before the first gadget is loaded, and are put where other
# tools of the container look for them too, unless the file system is read-only.
CMD ["serve", "--btf-install=/"]
