{{/* Arguments of a pool's agents. */}}
{{- define "nodegadget.agentArgs" -}}
{{- $pool := .pool -}}
- serve
- --listen=tcp://:9443
- --http=:9090
- --controller={{ include "nodegadget.controllerAddress" .root }}
- --authority=/run/nodegadget/authority/ca.crt
- --token=/run/nodegadget/token/token
- --host-root=/host
- --containers=true
- --pods={{ $pool.pods }}
{{- with $pool.runtime.socket }}
- --runtime-socket={{ . }}
{{- end }}
{{- with $pool.cgroupRoot }}
- --cgroup-root={{ . }}
{{- end }}
{{- with $pool.btf.source }}
- --btf={{ . }}
{{- end }}
{{- with $pool.btf.service }}
{{- with .url }}
- --btf-service={{ . }}
{{- end }}
{{- with .timeout }}
- --btf-service-timeout={{ . }}
{{- end }}
{{- if .caConfigMap }}
- --btf-service-ca=/run/nodegadget/btf-service/ca.crt
{{- end }}
{{- end }}
{{- with $pool.bufferSize }}
- --buffer-size={{ int64 . }}
{{- end }}
{{- with $pool.cgroupBudget }}
- --cgroup-budget={{ int64 . }}
{{- end }}
{{- with $pool.queueSize }}
- --queue-size={{ int64 . }}
{{- end }}
{{- with $pool.maxRuns }}
- --max-runs={{ int64 . }}
{{- end }}
{{- with $pool.sessions }}
- --sessions={{ .enabled }}
{{- with .limit }}
- --session-limit={{ int64 . }}
{{- end }}
{{- with .namespaceLimit }}
- --session-namespace-limit={{ int64 . }}
{{- end }}
{{- with .memory }}
- --session-memory={{ int64 . }}
{{- end }}
{{- with .rate }}
- --session-rate={{ int64 . }}
{{- end }}
{{- with .nodeRate }}
- --session-node-rate={{ int64 . }}
{{- end }}
{{- if .files.enabled }}
- --session-files=/var/lib/nodegadget/sessions
{{- with .files.bytes }}
- --session-file-bytes={{ int64 . }}
{{- end }}
{{- end }}
{{- range .endpoints }}
- --session-endpoint={{ . }}
{{- end }}
{{- end }}
{{- with $pool.extraArgs }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Mounts of a pool's agents; what each is for stands with the volume. */}}
{{- define "nodegadget.agentMounts" -}}
{{- $pool := .pool -}}
- name: cgroup
  mountPath: /host/sys/fs/cgroup
  {{- include "nodegadget.readOnly" .root | nindent 2 }}
- name: tracing
  mountPath: /sys/kernel/tracing
  {{- include "nodegadget.readOnly" .root | nindent 2 }}
- name: runtime
  mountPath: /host{{ include "nodegadget.runtimeDir" $pool }}
  {{- include "nodegadget.readOnly" .root | nindent 2 }}
- name: os-release
  mountPath: /host/etc/os-release
  readOnly: true
{{- if $pool.btf.hostFiles }}
- name: boot
  mountPath: /host/boot
  {{- include "nodegadget.readOnly" .root | nindent 2 }}
- name: modules
  mountPath: /host/lib/modules
  {{- include "nodegadget.readOnly" .root | nindent 2 }}
{{- end }}
{{- if not $pool.btf.bundle }}
- name: no-bundle
  mountPath: /usr/share/nodegadget
  readOnly: true
{{- end }}
{{- if $pool.btf.service.caConfigMap }}
- name: btf-service
  mountPath: /run/nodegadget/btf-service
  readOnly: true
{{- end }}
- name: authority
  mountPath: /run/nodegadget/authority
  readOnly: true
- name: token
  mountPath: /run/nodegadget/token
  readOnly: true
{{- if and $pool.sessions.enabled $pool.sessions.files.enabled }}
- name: sessions
  mountPath: /var/lib/nodegadget/sessions
{{- end }}
{{- if or $pool.pods $pool.sessions.enabled }}
- name: api
  mountPath: /var/run/secrets/kubernetes.io/serviceaccount
  readOnly: true
{{- end }}
{{- end }}

{{- define "nodegadget.agentVolumes" -}}
{{- $pool := .pool -}}
# Which cgroups there are, and so which containers.
- name: cgroup
  hostPath:
    path: /sys/fs/cgroup
    type: Directory
# Ids and formats of tracepoints. Reading is enough: probes are made by perf_event_open(2).
- name: tracing
  hostPath:
    path: /sys/kernel/tracing
    type: Directory
{{- if $pool.runtime.socket }}
# The container runtime's socket. Its directory, because a runtime that restarts
# makes a new one. What is mounted below later, such as containers' file systems,
# isn't seen.
{{- else }}
# The container runtime's socket, wherever below it is: what is mounted must exist, and
# this directory does on every node. Who may use that socket may do everything on
# the node, with the rest of the directory or without. What is mounted below later,
# such as containers' file systems, isn't seen.
{{- end }}
- name: runtime
  hostPath:
    path: {{ include "nodegadget.runtimeDir" $pool }}
    type: Directory
# Names the distribution, by which BTF of its kernels is found.
- name: os-release
  hostPath:
    path: /etc/os-release
    type: File
{{- if $pool.btf.hostFiles }}
# Where a distribution may have put a vmlinux with BTF.
- name: boot
  hostPath:
    path: /boot
# The other place for it.
- name: modules
  hostPath:
    path: /lib/modules
{{- end }}
{{- if not $pool.btf.bundle }}
# In front of the image's bundle.
- name: no-bundle
  emptyDir: {}
{{- end }}
{{- with $pool.btf.service.caConfigMap }}
# Who may have signed the BTF service's certificate.
- name: btf-service
  configMap:
    name: {{ . }}
    items:
      - key: ca.crt
        path: ca.crt
{{- end }}
# Who may have signed the controller's certificate. The pod waits for the controller
# to write it.
- name: authority
  configMap:
    name: nodegadget-authority
    items:
      - key: ca.crt
        path: ca.crt
# Proves to the controller which node this is, and is good for nothing else.
- name: token
  projected:
    sources:
      - serviceAccountToken:
          path: token
          audience: nodegadget
          expirationSeconds: 3600
{{- if and $pool.sessions.enabled $pool.sessions.files.enabled }}
# Where sessions write their files.
- name: sessions
  hostPath:
    path: {{ $pool.sessions.files.path }}
    type: DirectoryOrCreate
{{- end }}
{{- if or $pool.pods $pool.sessions.enabled }}
# To watch this node's pods, and trace sessions.
{{ include "nodegadget.apiToken" . }}
{{- end }}
{{- end }}
