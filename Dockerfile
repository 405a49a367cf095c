# SPDX-License-Identifier: Apache-2.0
#
# The agent's image: one static binary that holds the gadgets. `make image`
# passes the versions pinned in hack/versions.env.
ARG GOLANG=golang:1.26-bookworm
ARG BASE=scratch

# The compiler runs on the building machine's architecture and compiles for the
# image's; gadget objects for both come from git.
FROM --platform=$BUILDPLATFORM ${GOLANG} AS builder
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=${TARGETOS:-linux} GOARCH=${TARGETARCH} \
	go build -trimpath -buildvcs=false \
	-ldflags "-s -w -buildid= -X nodegadget.dev/pkg/version.Version=${VERSION}" \
	-o /out/gadget-agent ./cmd/gadget-agent
# Same commit, same times, same layer.
ARG SOURCE_DATE_EPOCH=0
RUN touch -d "@${SOURCE_DATE_EPOCH}" /out/gadget-agent

FROM ${BASE}
COPY --from=builder /out/gadget-agent /gadget-agent
# Root, because loading eBPF programs and reading other processes needs
# capabilities that Kubernetes can't give to another user: it sets no ambient
# ones. What the agent may do is cut down by the pod's list of capabilities.
USER 0:0
ENTRYPOINT ["/gadget-agent", "serve"]
